"""The extender's bodies as kube-scheduler writes and reads them (``k8s.io/kube-scheduler/extender/v1``: Go field names, no tags).

A cluster of 5,000 nodes sends 5,000 names with each question. They are not read one by one: the part of the body that holds
them is checked as a whole and handed back as it came. A body in any other form is parsed in full.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import orjson

MARK = b',"Nodes":null,"NodeNames":['  # between a pod and its names, as Go writes them; unescaped quotes stand in no JSON string
QUOTE, COMMA, SPACE = b'", '
WORDS_BYTES = 256 * 1024  # of reasons in one answer: with many nodes each gets a shorter one
LEAST_WORDS = 40  # characters of a reason that are always given
EMPTY = b"{}"
Kind = TypeVar("Kind", str, int, list[Any], dict[str, Any])


class WireError(ValueError):
    """The body is not what kube-scheduler sends; the message says what is wrong with it."""


class Names:
    """The node names of a question: the JSON array as it came, or the parsed list."""

    __slots__ = ("_count", "_parsed", "_raw")

    def __init__(self, raw: bytes | None = None, parsed: list[str] | None = None, count: int = 0) -> None:
        self._raw = raw if raw is not None else orjson.dumps(parsed)
        self._parsed, self._count = parsed, count

    @property
    def raw(self) -> bytes:
        """The JSON array."""
        return self._raw

    def listed(self) -> list[str]:
        """The names."""
        if self._parsed is None:
            self._parsed = self._raw[2:-2].decode().split('","')  # raw arrays hold neither escapes nor commas
        return self._parsed

    def __contains__(self, name: object) -> bool:
        if self._parsed is not None:
            return name in self._parsed
        return orjson.dumps(name) in self._raw  # whole names only: the quotes are part of what is looked for

    def failed(self, why: str) -> bytes:
        """``{name: why}`` for every name, as JSON."""
        if self._parsed is not None:
            words = shortened(why, len(self._parsed))
            return orjson.dumps(dict.fromkeys(self._parsed, words))
        # There are no escapes in the raw array, so '","' stands between two names and nowhere else.
        words_json = orjson.dumps(shortened(why, self._count))
        return b"{" + self._raw[1:-1].replace(b'","', b'":' + words_json + b',"') + b":" + words_json + b"}"


def shortened(why: str, nodes: int) -> str:
    """The reason, cut so that those of all nodes together stay readable for kube-scheduler within its time limit."""
    most = max(LEAST_WORDS, WORDS_BYTES // max(nodes, 1))
    return why if len(why) <= most else f"{why[: most - 1]}…"


class Asked:
    """A question of filter or prioritize: which pod, and which nodes in which kind (``names`` or ``nodes``, the other is None)."""

    __slots__ = ("key", "names", "node_list", "pod", "uid")

    def __init__(self, pod: dict[str, Any], names: Names | None, node_list: dict[str, Any] | None) -> None:
        self.pod, self.names, self.node_list = pod, names, node_list
        self.key, self.uid = identity(pod)

    def has(self, node: str) -> bool:
        """Whether that node is among those asked about."""
        return node in self.names if self.names is not None else node in self.node_names()

    def node_names(self) -> list[str]:
        """The names of the nodes asked about."""
        return self.names.listed() if self.names is not None else [_node_name(item) for item in self.items()]

    def items(self) -> list[dict[str, Any]]:
        """The whole nodes asked about; empty where names were sent."""
        return (self.node_list or {}).get("items") or []


def identity(pod: dict[str, Any]) -> tuple[str, str]:
    """``namespace/name`` and uid of a pod. Raises WireError."""
    meta = pod.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        raise WireError("Pod.metadata.name is not there")
    namespace, uid = (_of(str, meta.get(field), f"Pod.metadata.{field} is not a text") for field in ("namespace", "uid"))
    return f"{namespace or 'default'}/{meta['name']}", uid


def _of(kind: type[Kind], value: object, complaint: str) -> Kind:
    """The value, which must be of that type; an empty one for null, as Go writes what it does not have. Raises WireError."""
    if value is None:
        return kind()
    if not isinstance(value, kind) or isinstance(value, bool):
        raise WireError(complaint)
    return value


# ---------------------------------------------------------------- reading


def read_question(body: bytes) -> Asked:
    """The question in a body of filter or prioritize. Raises WireError."""
    return _quickly(body) or _in_full(body)


def _quickly(body: bytes) -> Asked | None:
    """Without reading the names; None where the body is not written as Go writes it."""
    cut = body.find(MARK)
    if cut < 0 or not body.endswith(b'"]}'):
        return None
    names = body[cut + len(MARK) - 1 : -1]
    count = plain_strings(names)
    if not count:
        return None
    try:
        head = orjson.loads(body[:cut] + b"}")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(head, dict) or head.keys() != {"Pod"} or not isinstance(head["Pod"], dict):
        return None
    return Asked(head["Pod"], Names(raw=names, count=count), None)


def plain_strings(text: bytes | bytearray) -> int:
    """How many strings there are in a JSON array of ASCII without escapes, commas in strings and blanks in between; 0 of anything else.

    Cut at its commas it must be pieces that begin and end with a quote and hold no other. Every comma between two quotes
    makes each piece begin and end with one; no lone quote between two commas, before the first or after the last makes those
    two different; and then twice as many quotes as pieces leaves none to stand inside. Each step is one pass over all letters,
    without finding the names.
    """
    if not text.startswith(b'["') or not text.endswith(b'"]') or len(text) < len('[""]') or not text.isascii() or b"\\" in text:
        return 0
    letters = np.frombuffer(text, np.uint8)[1:-1]
    if int(letters.min()) < SPACE:
        return 0  # JSON knows no control characters in a string
    quote, comma = letters == QUOTE, letters == COMMA
    pieces = int(np.count_nonzero(comma)) + 1
    between = quote[:-2] & comma[1:-1]
    between &= quote[2:]
    if np.count_nonzero(quote) != 2 * pieces or np.count_nonzero(between) != pieces - 1:
        return 0
    return 0 if comma[1] or comma[-2] or np.any(comma[:-2] & comma[2:]) else pieces


def _in_full(body: bytes) -> Asked:
    asked = read_object(body)
    pod = _pod(asked)
    names, node_list = asked.get("nodenames"), asked.get("nodes")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise WireError("NodeNames is not a list of texts")
        return Asked(pod, Names(parsed=names), None)
    if node_list is None:
        raise WireError("neither NodeNames nor Nodes is there")
    if not isinstance(node_list, dict):
        raise WireError("Nodes is not a list of nodes")
    for item in _of(list, node_list.get("items"), "Nodes.items is not a list"):
        _node_name(item)
    return Asked(pod, None, node_list)


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object by its names in small letters, as Go reads one: old kube-schedulers write them so. Raises WireError."""
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(f"the body is not JSON: {error}") from None
    if not isinstance(read, dict):
        raise WireError("the body is not a JSON object")
    return {name.lower(): value for name, value in read.items()}


def _pod(asked: dict[str, Any]) -> dict[str, Any]:
    pod = asked.get("pod")
    if not isinstance(pod, dict):
        raise WireError("Pod is not there, or is not an object")
    return pod


def _node_name(item: object) -> str:
    meta = item.get("metadata") if isinstance(item, dict) else None
    name = meta.get("name") if isinstance(meta, dict) else None
    if not isinstance(name, str):
        raise WireError("Nodes holds something that is not a node with a name")
    return name


def read_victims(body: bytes) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The pod of a preempt question, and the victims by node as the answer writes them, whichever kind came. Raises WireError."""
    asked = read_object(body)
    pod = _pod(asked)
    whole = asked.get("nodenametometavictims") is None
    field = "NodeNameToVictims" if whole else "NodeNameToMetaVictims"
    victims = _of(dict, asked.get(field.lower()), f"{field} is not an object")
    return pod, {node: _victims(node, one, whole=whole) for node, one in victims.items()}


def _victims(node: str, victims: object, *, whole: bool) -> dict[str, Any]:
    if not whole and isinstance(victims, dict) and _is_written_by_go(victims):
        return victims
    complaint = f"the victims on node '{node}' are not an object with Pods and NumPDBViolations"
    read = {name.lower(): value for name, value in _of(dict, victims, complaint).items()}
    pods, violations = _of(list, read.get("pods"), complaint), _of(int, read.get("numpdbviolations"), complaint)
    return {"Pods": [{"UID": _victim(node, pod, whole=whole)} for pod in pods], "NumPDBViolations": violations}


def _is_written_by_go(victims: dict[str, Any]) -> bool:
    """Whether it stands already as the answer writes it, as it does for each of thousands of victims: then it is handed back."""
    pods = victims.get("Pods")
    if len(victims) != len(("Pods", "NumPDBViolations")) or type(victims.get("NumPDBViolations")) is not int or type(pods) is not list:
        return False
    return all(type(pod) is dict and len(pod) == 1 and type(pod.get("UID")) is str for pod in pods)


def _victim(node: str, pod: object, *, whole: bool) -> str:
    holder = pod.get("metadata") if whole and isinstance(pod, dict) else pod
    uid = next((value for name, value in holder.items() if name.lower() == "uid"), None) if isinstance(holder, dict) else None
    if not isinstance(uid, str):
        raise WireError(f"a victim on node '{node}' has no UID")
    return uid


# ---------------------------------------------------------------- writing


def passes_all(asked: Asked) -> bytes:
    """The answer of filter that lets every node pass, in the kind asked."""
    if asked.names is not None:
        return _filtered(b"", asked.names.raw, EMPTY)
    return _filtered(orjson.dumps(asked.node_list), b"null", EMPTY)


def passes_one(asked: Asked, node: str) -> bytes:
    """The answer of filter that lets one node pass. The others get no reasons: the pod goes where it was sent."""
    if asked.names is not None:
        return _filtered(b"", orjson.dumps([node]), EMPTY)
    return _filtered(_node_list(asked, [item for item in asked.items() if _node_name(item) == node]), b"null", EMPTY)


def passes_none(asked: Asked, why: str) -> bytes:
    """The answer of filter that lets no node pass: an empty list, never null, and the reason at every node.

    The reasons stand in ``FailedAndUnresolvableNodes``: no eviction would help a pod that only waits for its plan.
    """
    if asked.names is not None:
        return _filtered(b"", b"[]", asked.names.failed(why) if asked.names.raw != b"[]" else EMPTY)
    names = asked.node_names()
    return _filtered(_node_list(asked, []), b"null", orjson.dumps(dict.fromkeys(names, shortened(why, len(names)))))


def _node_list(asked: Asked, items: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({**(asked.node_list or {}), "items": items})


def _filtered(nodes: bytes, names: bytes, unresolvable: bytes) -> bytes:
    parts = (
        b'{"Nodes":',
        nodes or b"null",
        b',"NodeNames":',
        names,
        b',"FailedNodes":{},"FailedAndUnresolvableNodes":',
        unresolvable,
        b',"Error":""}',
    )
    return b"".join(parts)


def victims_json(victims: dict[str, dict[str, Any]]) -> bytes:
    """The answer of preempt."""
    return orjson.dumps({"NodeNameToMetaVictims": victims})


def error_json(why: str) -> bytes:
    """The answer of filter or bind that is an error; kube-scheduler writes the sentence to its log."""
    return orjson.dumps({"Error": why})
