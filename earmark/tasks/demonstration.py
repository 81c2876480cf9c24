"""All of it on sounds that it makes itself: labels, training, detection, scores, picture."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from earmark.data.demo_sounds import demo_sounds
from earmark.data.scenes import SceneSettings
from earmark.errors import UserError
from earmark.tasks.detection import Detected, detect, tag
from earmark.tasks.evaluation import Evaluation, evaluate
from earmark.tasks.picture import plot
from earmark.tasks.progress import say
from earmark.tasks.recordings import made_folder
from earmark.tasks.synthesis import mix_data_set
from earmark.tasks.training import train
from earmark.writing import replacing, writing

MARK = ".earmark-demo"
SOUNDS_OF_CLASS = 40
TRAINING_SCENES = 360
HELD_OUT_SCENES = 80
RECORDING_SECONDS = 60.0
RECORDING_EVENTS = (14, 20)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demo made.

    Attributes:
        out: the folder of everything.
        tagging: scores of the tags of unseen clips.
        detection: scores of the events of the same clips, in segments of 1 s.
        detected: the events of the long recording.
    """

    out: Path
    tagging: Evaluation
    detection: Evaluation
    detected: Detected

    def text(self) -> str:
        """The scores, where everything is, and what to type next."""
        out = self.out
        return f"""
TAGS of {HELD_OUT_SCENES} unseen clips
{self.tagging.text()}
EVENTS of the same clips, learnt from tags alone
{self.detection.text()}
{self.detected.text()}

Look at
  {out / "recording.png"}: spectrogram, probabilities, detected against true events
  {out / "recording.csv"}: its events, filename,onset,offset,event_label,score
  {out / "recording" / "audio"}: the recording itself, to listen to
  {out / "model" / "README.md"}: the model card

For your own clips, make a table clips.tsv with a row a clip,
  filename<tab>event_labels
  morning/0001.wav<tab>siren,horn
and type
  earmark train clips.tsv --audio FOLDER_OF_CLIPS --out model
  earmark detect ANY_RECORDINGS --model model --out events.csv"""


def demo(out: Path = Path("demo"), *, seed: int = 0, device: str = "auto") -> Demonstration:
    """Shows all of it on sounds that it makes itself; takes two or three minutes.

    Args:
        out: the folder to make; one from an earlier demo is made anew.
        seed: other sounds, scenes and weights.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: ``out`` holds something else.
    """
    _clear(out)
    clips = SceneSettings()
    rate_hz = clips.rate_hz
    say("1. Mixing clips of sirens, horns, beeps and the like over noise")
    heard = demo_sounds(SOUNDS_OF_CLASS, rate_hz, seed)
    unheard = demo_sounds(SOUNDS_OF_CLASS, rate_hz, seed + 1)
    mix_data_set(heard, clips, out / "clips", TRAINING_SCENES, seed)
    mix_data_set(unheard, clips, out / "unseen", HELD_OUT_SCENES, seed + 1)
    least, most = RECORDING_EVENTS
    long = SceneSettings(duration_seconds=RECORDING_SECONDS, events_min=least, events_max=most)
    mix_data_set(unheard, long, out / "recording", 1, seed + 2)

    say("2. Training on the clips' tags alone: the model is never told when a sound is there")
    model = out / "model"
    train(
        out / "clips" / "weak.tsv",
        audio=out / "clips" / "audio",
        out=model,
        recipe="demo",
        seed=seed,
        device=device,
        licence="CC0 (synthetic)",
    )
    say("3. Tagging and detecting in unseen clips")
    unseen = out / "unseen"
    tag(unseen / "audio", model=model, out=unseen / "tags.csv", device=device)
    detect(unseen / "audio", model=model, out=unseen / "events.csv", device=device)
    tagging = evaluate(unseen / "strong.tsv", unseen / "tags.csv", thresholds=model)
    detection = evaluate(unseen / "strong.tsv", unseen / "events.csv")

    say("4. Detecting events in a new recording of a minute")
    recording = next((out / "recording" / "audio").iterdir())
    detected = detect(recording, model=model, out=out / "recording.csv", device=device)
    plot(
        recording,
        model=model,
        out=out / "recording.png",
        reference=out / "recording" / "strong.tsv",
        device=device,
    )
    return Demonstration(out, tagging, detection, detected)


def _clear(out: Path) -> None:
    """An empty folder for the demo; refuses to touch what is not an earlier demo's."""
    if out.exists() and not (out / MARK).exists():
        if not out.is_dir() or any(out.iterdir()):
            raise UserError("the demo needs a new or empty folder; name another", where=out)
    elif out.exists():
        with writing(out):
            shutil.rmtree(out)
    made_folder(out)
    with replacing(out / MARK) as part:
        part.write_text(
            json.dumps("made by earmark demo; made anew by the next one") + "\n", encoding="utf-8"
        )
