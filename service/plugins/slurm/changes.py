"""What is changed of a Slurm job, and what became of it: the same by ``scontrol`` and by slurmrestd."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TEXT = 400  # letters of a comment


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one job. ``hold`` True holds it as its user would, False releases it; either stands alone, as in scontrol."""

    job: str
    pin: tuple[str, ...] | None = None  # nodes; empty takes the pin away
    comment: str | None = None
    hold: bool | None = None
    priority: int | None = None

    def line(self) -> str:
        """The change as one line of scontrol."""
        if self.hold is not None:
            return f"{'uhold' if self.hold else 'release'} {self.job}"
        words = [f"update jobid={self.job}"]
        if self.pin is not None:
            words.append(f"ReqNodeList={','.join(self.pin)}")
        if self.comment is not None:
            words.append(f"AdminComment={quoted(self.comment)}")
        if self.priority is not None:
            words.append(f"Priority={self.priority}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a change: ``ok``, refused with a ``detail``, or unknown (None) because nobody answered."""

    ok: bool | None
    detail: str = ""

    @property
    def gone(self) -> bool:
        """Whether Slurm knows no such job any more."""
        return self.ok is False and ("Invalid job id" in self.detail or "already finished" in self.detail)


def plain(sentence: str) -> str:
    """A sentence that no version of Slurm stumbles over: one line, no quotes, not too long."""
    letters = (letter if letter.isprintable() and letter not in "\"\\'`" else " " for letter in sentence)
    return " ".join("".join(letters).split())[:MOST_TEXT]


def quoted(sentence: str) -> str:
    """A sentence as one value of a line of scontrol, in quotes."""
    return f'"{plain(sentence)}"'
