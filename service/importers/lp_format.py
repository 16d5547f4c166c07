"""Reads programs in the LP format (that of CPLEX), strictly.

Taken: an objective with a constant, constraints ``[name:] terms <= number`` (also ``>=`` and ``=``), Bounds, Generals, Binaries,
End. Refused, because readers drop or disagree on them, or HiGHS cannot read them: constants and repeated columns in a constraint,
columns on the right, constraints with two sides, a bound given twice, a binary column with bounds of its own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from service.importers.program_draft import Draft, FileMistakeError, Most, number

_SENSE = re.compile(r"(min|max)(?:imi[sz]e|imum)?(?:\s+(.*)|\s*)\Z", re.IGNORECASE)
_HEADERS = {
    "constraints": re.compile(r"(?:subject\s+to|such\s+that|st\.?|s\.t\.)(?:\s+(?!:)(.*)|\s*)\Z", re.IGNORECASE),
    "bounds": re.compile(r"bounds?(\s*)\Z", re.IGNORECASE),
    "generals": re.compile(r"(?:generals?|gen|integers?|int)(\s*)\Z", re.IGNORECASE),
    "binaries": re.compile(r"(?:binary|binaries|bin)(\s*)\Z", re.IGNORECASE),
    "end": re.compile(r"end(\s*)\Z", re.IGNORECASE),
}
_REFUSED = {
    "semi-continuous columns": re.compile(r"(?:semi-continuous|semis?|sec)\s*\Z", re.IGNORECASE),
    "special ordered sets": re.compile(r"sos[12]?\s*\Z", re.IGNORECASE),
    "general constraints": re.compile(
        r"(?:general\s+constraints?|gencons?|pwlobj|lazy\s+constraints|user\s+cuts|scenario)\s*\Z", re.IGNORECASE
    ),
    "several objectives": re.compile(r"(?:min|max)\w*\s+multi-?objectives?\s*\Z", re.IGNORECASE),
}
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<relation><=|>=|=<|=>|<|>|=)"
    r"|(?P<sign>[+-])"
    r"|(?P<colon>:)"
    r"|(?P<name>[^\s<>=:+\-*^\[\]\\\d.][^\s<>=:+\-*^\[\]\\]*)"
    r"|(?P<other>\S)"
)
_RELATION = re.compile(r"=[<>]|[<>]=?")
_UPPER = {"<", "<=", "=<"}
_LOWER = {">", ">=", "=>"}
_ENDLESS = {"inf", "infinity"}

Terms = list[tuple[str, float, int]]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def read_lp(text: str, most: Most) -> Draft:
    """The program of an LP file; raises FileMistakeError."""
    sense, sections = _sections(text)
    reader = _Reader(most)
    reader.draft.maximise = sense
    reader.objective(_Tokens(sections["objective"]))
    reader.constraints(_Tokens(sections["constraints"]))
    reader.bounds(_Tokens(sections["bounds"]))
    reader.whole(_Tokens(sections["generals"]), binary=False)
    reader.whole(_Tokens(sections["binaries"]), binary=True)
    return reader.finished()


def plain(text: str) -> str:
    """The text with relations as ``<=``, ``>=`` and ``=``, the only ones that HiGHS 1.12 reads in constraints."""
    return _RELATION.sub(lambda found: ">=" if ">" in found.group() else "<=", text)


def _sections(text: str) -> tuple[bool, dict[str, list[_Token]]]:
    """Whether to maximise, and the tokens of each section."""
    found: dict[str, list[_Token]] = {name: [] for name in ("objective", *_HEADERS)}
    maximise: bool | None = None
    section = ""
    for line, raw in enumerate(text.splitlines(), 1):
        content = raw.split("\\", 1)[0].strip()
        if not content:
            continue
        if section == "end":
            raise FileMistakeError("after_end", "something follows End; leave it out", line)
        for what, pattern in _REFUSED.items():
            if pattern.match(content):
                raise FileMistakeError("unsupported", f"the file has {what}; only linear and mixed-integer programs are taken", line)
        header = _header(content) if section else None
        if maximise is None:
            begun = _SENSE.match(content)
            if begun is None:
                raise FileMistakeError("no_objective", "an LP file begins with Minimize or Maximize", line)
            maximise, section, content = begun[1].lower() == "max", "objective", begun[2] or ""
        elif header is not None:
            section, content = header
        found[section] += _tokens(content, line)
    if maximise is None:
        raise FileMistakeError("empty", "the file is empty; an LP file begins with Minimize or Maximize")
    if section != "end":
        raise FileMistakeError("cut_off", "the file ends without End, so a part of it may be missing; send all of it")
    return maximise, found


def _header(content: str) -> tuple[str, str] | None:
    """The section that a line begins, with what follows on the line; None for a line within a section."""
    for name, pattern in _HEADERS.items():
        begun = pattern.match(content)
        if begun is not None:
            return name, (begun[1] or "").strip()
    return None


def _tokens(content: str, line: int) -> list[_Token]:
    made = [_Token(str(match.lastgroup), match.group(), line) for match in _TOKEN.finditer(content)]
    for token in made:
        if token.kind == "other":
            what = {"[": "quadratic terms", "^": "quadratic terms", "*": "products"}.get(token.text, f"the character '{token.text}'")
            raise FileMistakeError("unsupported", f"{what} cannot stand here; only linear and mixed-integer programs are taken", line)
    return made


class _Tokens:
    """The tokens of a section, one after another."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def kind(self, ahead: int = 0) -> str:
        """The kind of a coming token, "" past the last one."""
        at = self._at + ahead
        return self._tokens[at].kind if at < len(self._tokens) else ""

    def text(self, ahead: int = 0) -> str:
        """The text of a coming token."""
        return self._tokens[self._at + ahead].text

    @property
    def line(self) -> int:
        """The line of the coming token, or of the last one."""
        return self._tokens[min(self._at, len(self._tokens) - 1)].line if self._tokens else 0

    def take(self, *kinds: str) -> _Token:
        """The coming token, which must be of one of ``kinds``."""
        if self.kind() not in kinds:
            there = f"'{self.text()[:40]}'" if self.kind() else "the end of the section"
            raise FileMistakeError("unexpected", f"expected a {' or a '.join(kinds)}, found {there}", self.line)
        self._at += 1
        return self._tokens[self._at - 1]


class _Reader:
    """Sections on their way into a Draft."""

    def __init__(self, most: Most) -> None:
        self.draft = Draft(most)
        self._bounded: dict[int, set[str]] = {}
        self._unused: list[str] = []

    def _column(self, name: str, line: int) -> int:
        known = self.draft.column_at.get(name)
        return self.draft.add_column(name, line) if known is None else known

    # ------------------------------------------------------------ terms

    def _terms(self, tokens: _Tokens) -> tuple[Terms, list[float]]:
        """Signed terms, and the constants among them."""
        terms: Terms = []
        constants: list[float] = []
        first = True
        while tokens.kind() in ("sign", "number", "name") and (first or tokens.kind() == "sign"):
            factor, line = 1.0, tokens.line
            while tokens.kind() == "sign":
                factor *= -1.0 if tokens.take("sign").text == "-" else 1.0
            told = tokens.kind() == "number"
            if told:
                factor *= number(tokens.take("number").text, line)
            if tokens.kind() == "name" and tokens.kind(1) != "colon":
                terms.append((tokens.take("name").text, factor, line))
            elif told:
                constants.append(factor)
            else:
                tokens.take("number", "name")
            first = False
        seen = set[str]()
        for name, _, line in terms:
            if name in seen:
                raise FileMistakeError("duplicate_entry", f"the column '{name[:40]}' is named twice in one sum; add the two up", line)
            seen.add(name)
        return terms, constants

    def objective(self, tokens: _Tokens) -> None:
        """``[name:] terms [+ constant]``."""
        if tokens.kind() == "name" and tokens.kind(1) == "colon":
            tokens.take("name")
            tokens.take("colon")
        terms, constants = self._terms(tokens)
        if tokens.kind():
            raise FileMistakeError(
                "unexpected", f"'{tokens.text()[:40]}' is no part of an objective; is 'Subject To' missing?", tokens.line
            )
        for name, value, line in terms:
            self.draft.cost[self._column(name, line)] = value
        self.draft.offset = math.fsum(constants)

    # ------------------------------------------------------------ constraints and bounds

    def constraints(self, tokens: _Tokens) -> None:
        """One after another until the section ends."""
        while tokens.kind():
            name = None
            if tokens.kind() == "name" and tokens.kind(1) == "colon":
                name = tokens.take("name").text
                tokens.take("colon")
            self._constraint(name, tokens)

    def _constraint(self, name: str | None, tokens: _Tokens) -> None:
        line = tokens.line
        terms, constants = self._terms(tokens)
        if constants and not terms and tokens.kind() == "relation":
            detail = (
                "a constraint begins with its sum: write 'x + y >= 2', and one with two sides as two constraints (HiGHS reads no others)"
            )
            raise FileMistakeError("number_first", detail, line)
        if constants or not terms:
            raise FileMistakeError(
                "constant", "a constraint has columns on one side and a single number on the other; bring it to that form", line
            )
        sides = {"l": -math.inf, "u": math.inf}
        self._side(sides, tokens.take("relation").text, self._number(tokens), line)
        if tokens.kind() == "relation":
            raise FileMistakeError("number_first", "a constraint has one relation; write one with two sides as two constraints", line)
        row = self.draft.add_row(name, sides["l"], sides["u"], line)
        for column, value, at in terms:
            self.draft.add_entry(row, self._column(column, at), value)

    def _number(self, tokens: _Tokens) -> float:
        """A signed number or infinity."""
        factor = 1.0
        while tokens.kind() == "sign":
            factor *= -1.0 if tokens.take("sign").text == "-" else 1.0
        if tokens.kind() == "name" and tokens.text().lower() in _ENDLESS:
            tokens.take("name")
            return factor * math.inf
        line = tokens.line
        return factor * number(tokens.take("number").text, line, endless=True)

    @staticmethod
    def _side(sides: dict[str, float], relation: str, value: float, line: int, *, mirrored: bool = False) -> None:
        """Note that the sum stands in ``relation`` to ``value``; ``mirrored``: the value stands first."""
        below = relation in (_LOWER if mirrored else _UPPER)
        which = "lu" if relation == "=" else "u" if below else "l"
        if any(math.isfinite(sides[one]) for one in which):
            raise FileMistakeError("side_twice", "the same side is given twice; write low <= sum <= high", line)
        if (value == math.inf and "l" in which) or (value == -math.inf and "u" in which):
            raise FileMistakeError("infinite_side", "no number reaches an infinite limit on this side; correct it", line)
        sides.update(dict.fromkeys(which, value))

    def bounds(self, tokens: _Tokens) -> None:
        """``low <= name <= high``, ``name <= high``, ``name >= low``, ``name = value``, ``name free``."""
        while tokens.kind():
            line = tokens.line
            sides: dict[str, float] = {"l": -math.inf, "u": math.inf}
            given = ""
            if tokens.kind() == "name" and tokens.text().lower() not in _ENDLESS:
                name = tokens.take("name").text
                if tokens.kind() == "name" and tokens.text().lower() == "free":
                    tokens.take("name")
                    given = "lu"
                else:
                    given = self._bound(sides, tokens, line)
            else:
                value = self._number(tokens)
                relation = tokens.take("relation").text
                name = tokens.take("name").text
                given = self._sided(sides, relation, value, line, mirrored=True)
                if tokens.kind() == "relation":
                    given += self._bound(sides, tokens, line)
            self._limit(name, sides, given, line)

    def _bound(self, sides: dict[str, float], tokens: _Tokens, line: int) -> str:
        relation = tokens.take("relation").text
        return self._sided(sides, relation, self._number(tokens), line)

    @staticmethod
    def _sided(sides: dict[str, float], relation: str, value: float, line: int, *, mirrored: bool = False) -> str:
        if relation == "=" and not math.isfinite(value):
            raise FileMistakeError("infinite_side", "a column cannot be fixed at infinity; correct it", line)
        _Reader._side(sides, relation, value, line, mirrored=mirrored)
        return "lu" if relation == "=" else "u" if relation in (_LOWER if mirrored else _UPPER) else "l"

    def _limit(self, name: str, sides: dict[str, float], given: str, line: int) -> None:
        if name not in self.draft.column_at:
            self._unused.append(name)
        column = self._column(name, line)
        known = self._bounded.setdefault(column, set())
        if known & set(given) or len(set(given)) != len(given):
            raise FileMistakeError("side_twice", f"the column '{name}' has this bound already; keep one of them", line)
        known |= set(given)
        if "l" in given:
            self.draft.lower[column] = sides["l"]
        if "u" in given:
            self.draft.upper[column] = sides["u"]

    def whole(self, tokens: _Tokens, *, binary: bool) -> None:
        """Names of integer columns."""
        while tokens.kind():
            token = tokens.take("name")
            if token.text not in self.draft.column_at:
                self._unused.append(token.text)
            column = self._column(token.text, token.line)
            self.draft.integer[column] = True
            if binary:
                if column in self._bounded:
                    detail = (
                        f"the binary column '{token.text}' has bounds too, which readers weigh differently; drop them, or make it general"
                    )
                    raise FileMistakeError("bounded_binary", detail, token.line)
                self.draft.upper[column] = 1.0

    def finished(self) -> Draft:
        """The program, when there is one."""
        if not self.draft.cost:
            raise FileMistakeError("empty", "there are no columns: a program needs one at least")
        if self._unused:
            detail = f"{len(self._unused):,} columns, such as '{self._unused[0][:40]}', stand in no sum; are they slips?"
            self.draft.warnings.append(("unused_column", detail))
        return self.draft
