"""What an operator of a plugin can set, each by an environment variable ``QUARTERMASTER_PLUGIN_<NAME>``; README.md lists them all."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.plugins.modes import Mode

Seconds = Annotated[float, Field(gt=0, le=86_400 * 7, allow_inf_nan=False)]


class PluginSettings(BaseSettings):
    """Settings of a plugin. Every field has a default; each is documented by its description.

    Raises ValueError where times contradict each other, with the sentence that says what to change.
    """

    model_config = SettingsConfigDict(env_prefix="QUARTERMASTER_PLUGIN_", extra="ignore", frozen=True)

    mode: Mode = Field(
        default=Mode.shadow, description="How far it goes: shadow reports, advise scores, enforce pins and releases held jobs."
    )
    quiet_s: Seconds = Field(default=0.3, description="A round begins when nothing has changed for so long.")
    longest_wait_s: Seconds = Field(default=1.5, description="A round begins so long after a first change, however busy the cluster is.")
    refresh_s: Seconds = Field(default=10.0, description="A round begins so long after the last one, even when nothing has changed.")
    time_limit_s: Seconds = Field(default=2.0, description="Time limit of one solve.")
    gap: float = Field(default=1e-3, ge=0, lt=1, description="Relative gap at which a plan is good enough.")
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of one solve.")
    memory_gib: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Most memory of one solve in GiB; left out: no limit."
    )
    ttl_s: Seconds = Field(default=30.0, description="How long a plan may be carried out or answered from.")
    fallback_s: Seconds = Field(default=60.0, description="A held job that no verified plan has considered for so long is released.")
    patience_s: Seconds = Field(
        default=900.0, description="A job that has waited so long gets the nodes kept free on which it will fit first."
    )
    reserve_s: Seconds = Field(
        default=60.0, description="How long a released job may take to start before its pin and its seats are given up."
    )
    watchdog_s: Seconds = Field(default=30.0, description="The watchdog releases everything held when the last good round is so long ago.")
    explain_jobs: int = Field(default=3, ge=0, le=100, description="Waiting jobs for which a round looks for the fewest evictions.")
    explain_s: Seconds = Field(default=1.0, description="Time for looking for them, all together; nothing is released later for it.")
    tell_jobs: int = Field(default=200, ge=0, le=100_000, description="Most waiting jobs that a round leaves a new sentence with.")
    longest_pause_s: Seconds = Field(
        default=30.0, description="Longest pause after rounds that failed or had no plan; never longer than refresh_s."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.longest_wait_s < self.quiet_s:
            raise ValueError(f"longest_wait_s is {self.longest_wait_s:g}, below quiet_s {self.quiet_s:g}; make it at least as long")
        needed = self.refresh_s + self.longest_wait_s + self.time_limit_s + self.explain_s + 2  # for ending a frozen child
        if self.watchdog_s < needed:
            raise ValueError(
                f"watchdog_s is {self.watchdog_s:g} and rounds may be {needed:g} s apart; raise it to that, or lower refresh_s"
            )
        if self.ttl_s < self.time_limit_s:
            raise ValueError(f"ttl_s is {self.ttl_s:g}, below time_limit_s {self.time_limit_s:g}: a plan would be too old when it is made")
        return self
