"""Mixup and CutMix: what becomes of clips and targets."""

import numpy as np
import pytest
import torch

from r3d.training.mixing import class_probabilities, mix_clips

N_CLIPS = 4
# Every clip has one value everywhere and a class of its own, both its number.
CLIPS = torch.arange(float(N_CLIPS)).view(-1, 1, 1, 1, 1).expand(-1, 3, 5, 20, 30).clone()
TARGETS = class_probabilities(torch.arange(N_CLIPS), N_CLIPS)


def mix(seed: int, *, mixup: float = 0.0, cutmix: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return mix_clips(CLIPS, TARGETS, mixup_alpha=mixup, cutmix_alpha=cutmix, rng=rng)


def shares(targets: torch.Tensor) -> tuple[float, int]:
    """The share that each clip keeps, the same for all, and which one it is mixed with."""
    torch.testing.assert_close(targets.sum(1), torch.ones(N_CLIPS))
    kept = targets.diagonal()
    torch.testing.assert_close(kept, kept[:1].expand(N_CLIPS))
    others = targets - torch.diag(kept)
    assert ((others > 0).sum(1) <= 1).all()
    return float(kept[0]), int(others[0].argmax())


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_clips_by_the_shares_of_their_classes(seed: int) -> None:
    clips, targets = mix(seed, mixup=1.0)
    assert 0 < shares(targets)[0] < 1
    # As the value of a clip is the number of its class, both are mixed alike.
    expected = targets @ torch.arange(float(N_CLIPS))
    torch.testing.assert_close(clips, expected.view(-1, 1, 1, 1, 1).expand_as(CLIPS))


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_pastes_one_rectangle_into_all_frames(seed: int) -> None:
    clips, targets = mix(seed, cutmix=1.0)
    kept, other = shares(targets)
    assert torch.equal(clips, clips[:, :1, :1].expand_as(clips))
    pasted = clips[0, 0, 0] != 0
    assert (clips[0, 0, 0][pasted] == other).all()
    assert float(pasted.float().mean()) == pytest.approx(1 - kept, abs=1e-6)
    rows, columns = pasted.any(1), pasted.any(0)
    assert torch.equal(pasted, rows[:, None] & columns)
    for line in (rows, columns):
        (places,) = np.nonzero(line.numpy())
        assert np.array_equal(places, np.arange(len(places)) + places[:1].sum())


def test_cutmix_draws_places_and_sizes() -> None:
    kept = [shares(mix(seed, cutmix=1.0)[1])[0] for seed in range(200)]
    assert min(kept) < 0.2
    assert max(kept) > 0.95
    touched = torch.stack([mix(seed, cutmix=1.0)[0][1, 0, 0] != 1 for seed in range(200)])
    assert (touched.float().mean(0) > 0.1).all()


def test_small_alphas_mix_little_as_a_rule() -> None:
    def least(alpha: float) -> float:
        drawn = [shares(mix(seed, mixup=alpha)[1])[0] for seed in range(200)]
        return float(np.mean([min(share, 1 - share) for share in drawn]))

    assert least(0.1) < 0.1 < 0.2 < least(1.0) < 0.3  # Beta(1, 1) is uniform: 1/4


def test_with_both_each_batch_draws_one_of_them() -> None:
    drawn = [mix(seed, mixup=1.0, cutmix=1.0)[0] for seed in range(100)]
    n_blended = sum(bool((clips != clips.round()).any()) for clips in drawn)
    assert 30 < n_blended < 70


def test_the_same_batch_is_mixed_alike_again() -> None:
    for one, other in zip(
        mix(3, mixup=0.4, cutmix=1.0), mix(3, mixup=0.4, cutmix=1.0), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(CLIPS[:, 0, 0, 0, 0], torch.arange(float(N_CLIPS)))
