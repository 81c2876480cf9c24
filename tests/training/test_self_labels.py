"""Frames that a teacher hears become labels within their clip's tags, and follow into mixtures."""

import numpy as np
import pytest
import torch

from earmark.config import AugmentationSettings, CrnnSettings
from earmark.data.augment import Augmentation
from earmark.features import Normaliser
from earmark.model.crnn import GatedCRNN
from earmark.training.loop import Batch, FrameLabels, train_epoch
from earmark.training.self_labels import LEAST_SHARE, changed_with_frames, frame_labels

BANDS, FRAMES, CLASSES = 8, 12, 2


def network(pooling=1):
    torch.manual_seed(0)
    given = CrnnSettings(
        filters=4,
        time_pooling=(pooling,),
        frequency_pooling=(2,),
        recurrent_units=4,
        localisation="linear_softmax",
    )
    return GatedCRNN(given, BANDS, CLASSES, Normaliser(np.zeros(BANDS), np.ones(BANDS)))


def augment(**settings):
    return Augmentation(AugmentationSettings(**settings), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("lengths", [None, torch.tensor([12, 7, 12, 1])])
def test_labels_are_the_frames_near_the_highest_of_tagged_classes(lengths):
    teacher = network(pooling=2)
    features = 3 * torch.randn(4, FRAMES, BANDS, generator=torch.Generator().manual_seed(2))
    tags = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    found = frame_labels(teacher, features, lengths, tags, to_one=2, precision="float32")
    probabilities = teacher(features, lengths).frame_probabilities
    for clip, (of_clip, tag) in enumerate(zip(probabilities, tags, strict=True)):
        frames = 6 if lengths is None else -(-int(lengths[clip]) // 2)
        for k in range(CLASSES):
            expected = torch.zeros(6)
            if tag[k]:
                heard = of_clip[:frames, k]
                expected[:frames] = (heard >= LEAST_SHARE * heard.max()).float()
            assert torch.equal(found[clip, :, k], expected)
    assert not found.requires_grad


def test_a_mixture_holds_what_both_clips_hold_frame_by_frame():
    clips = 6
    features = torch.zeros(clips, FRAMES, BANDS)
    tags = torch.eye(clips)
    heard = torch.zeros(clips, FRAMES, clips)
    for clip in range(clips):
        heard[clip, clip : clip + 3, clip] = 1
    _, mixed, _, frames = changed_with_frames(
        augment(mixed_share=1.0), features, None, tags, None, heard, to_one=1
    )
    assert frames.known is None
    for clip in range(clips):
        sources = mixed[clip].nonzero().flatten().tolist()
        assert clip in sources
        assert torch.equal(frames.values[clip], heard[sources].amax(dim=0))
    assert (mixed.sum(dim=1) == 2).any()


def test_beyond_a_clip_and_of_unknown_tags_nothing_is_known():
    lengths = torch.tensor([12, 5])
    tags = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    known = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    heard = torch.ones(2, 6, 2) * tags[:, None]
    _, same, still, frames = changed_with_frames(
        augment(), torch.zeros(2, FRAMES, BANDS), lengths, tags, known, heard, to_one=2
    )
    assert torch.equal(same, tags)
    assert torch.equal(still, known)
    assert frames.known.sum(dim=1).tolist() == [[6.0, 0.0], [3.0, 3.0]]


def test_what_is_not_known_of_frames_teaches_nothing():
    def trained(values, known):
        learner = network()
        optimiser = torch.optim.SGD(learner.parameters(), lr=0.1)
        features = torch.randn(3, FRAMES, BANDS, generator=torch.Generator().manual_seed(3))
        tags = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        frames = None if values is None else FrameLabels(values, known)
        batch = Batch(features, None, tags, frames=frames)
        loss = train_epoch(learner, [batch], optimiser, precision="float32")
        return loss, learner.localisation.classifier.weight.detach()

    ones, nothing = torch.ones(3, FRAMES, CLASSES), torch.zeros(3, FRAMES, CLASSES)
    without = trained(None, None)
    assert torch.equal(trained(ones, nothing)[1], without[1])
    assert not torch.equal(trained(ones, ones)[1], without[1])
    assert trained(ones, None)[0] == pytest.approx(trained(ones, ones)[0])
    assert trained(ones, None)[0] > without[0]


def test_frames_learn_what_they_are_told():
    learner = network()
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.02)
    random = torch.Generator().manual_seed(4)
    for _ in range(60):
        features = 0.3 * torch.randn(8, FRAMES, BANDS, generator=random)
        values = torch.zeros(8, FRAMES, CLASSES)
        for clip, place in enumerate(torch.randint(0, 8, (8,), generator=random).tolist()):
            features[clip, place : place + 4, :4] += 3
            values[clip, place : place + 4, 0] = 1
        tags = values.amax(dim=1)
        batch = Batch(features, None, tags, frames=FrameLabels(values))
        train_epoch(learner, [batch], optimiser, precision="float32")
    found = learner.eval()(features).frame_probabilities[:, :, 0] > 0.5
    assert (found == values[:, :, 0].bool()).float().mean() > 0.95
