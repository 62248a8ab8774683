"""Lists, folders and some videos, examined before any work."""


# Without outputs: it looks anew each time it is asked for.
rule doctor:
    log:
        f"{LOGS}/doctor.log",
    localrule: True
    conda:
        "../environment.yml"
    threads: 64  # all that there are
    params:
        report=f"{RESULTS}/doctor.json",
    script:
        "../workflow/scripts/doctor.py"
