"""`python -m r3d` is the command line."""

import signal


def main() -> None:
    """Run the command line; Ctrl-C while Python still imports it ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command line handles it
    from r3d.cli import main as run

    run()


if __name__ == "__main__":
    main()
