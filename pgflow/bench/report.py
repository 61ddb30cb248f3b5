"""A suite's report: a Markdown table on standard output, every sample in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgflow.bench import facts as circumstances
from pgflow.bench.figures import Figure, markdown, table


@dataclass(frozen=True, slots=True)
class Report:
    """What a suite has measured. ``missing`` says of each that was to be measured and could not be, why."""

    suite: str
    facts: dict[str, Any]
    figures: Sequence[Figure]
    missing: dict[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    def markdown(self) -> str:
        """The circumstances, the table, who is missing."""
        parts = [f"{circumstances.in_words(self.facts)}; {self._cells_in_words()}", markdown(table(self.figures))]
        parts += [f"missing: {name}: {why}" for name, why in self.missing.items()]
        return "\n\n".join([*parts, *self.remarks]) + "\n"

    def _cells_in_words(self) -> str:
        kinds = {figure.tail for figure in self.figures}
        words = {False: "median (lowest-highest)", True: "median / p99 / max"}
        return " or ".join(words[kind] for kind in sorted(kinds))

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        data = {
            "suite": self.suite,
            **self.facts,
            "missing": self.missing,
            "remarks": list(self.remarks),
            "figures": [figure.as_data() for figure in self.figures],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report that ``write`` wrote. Raises ValueError for a file that is none."""
        data = json.loads(path.read_text())
        try:
            figures = [Figure.from_data(figure) for figure in data.pop("figures")]
            return cls(data.pop("suite"), data, figures, data.pop("missing"), data.pop("remarks"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no report of a suite: {error!r}") from None
