"""Damage by chance that knows what it damages: words of text, members of archives."""

from __future__ import annotations

import io
import random
import re
import zipfile

from .mutations import mutate

NASTY = (
    *("", "0", "-1", "1e999", "nan", "inf", "1" * 400, "9" * 19, "0.5", "null", "true", "[]", "{}"),
    *('""', '"x"', "[1, 2]", '{"a": 1}', "&a [*a]", "!!python/object:os.system x", "1979-13-45"),
    *("/etc/passwd", "../../x", "C:\\x", "a\x00b", "\ufeff", "\u2028", "é" * 300, "💥", "%s{0}"),
    *("[" * 3000, "{'a':" * 200, '{"a":' * 3000, "- " * 2000, "<a>" * 3000, "<!DOCTYPE x>", "&x;"),
    *(",", ";", "\t", '"', "'", "\r", "\n\n\n", "#", "---", "..."),
)
"""What takes a word's place: numbers that do not fit, other kinds of values, deep nesting."""

_WORD = re.compile(rb'"[^"\n]*"|[\w.+-]+|[^\w\s]')


def mutate_text(data: bytes, seed: int) -> tuple[bytes, list[str]]:
    """Replace, repeat, drop and exchange words and lines of a text.

    Returns:
        The damaged text, and the names of what was done.
    """
    rng = random.Random(seed)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.choice(("word", "word", "word", "copy", "line", "nest"))
        words = list(_WORD.finditer(data))
        lines = data.splitlines(keepends=True)
        if kind in ("word", "copy", "nest") and words:
            word = rng.choice(words)
            new = rng.choice(NASTY).encode()
            if kind == "copy":
                new = rng.choice(words)[0]
            elif kind == "nest":  # a value becomes a list of itself, or a mapping
                new = rng.choice((b"[%s]", b'{"a": %s}', b"%s %s" % (word[0], word[0]))).replace(
                    b"%s", word[0]
                )
            data = data[: word.start()] + new + data[word.end() :]
        elif lines:
            place = rng.randrange(len(lines))
            what = rng.randrange(3)
            if what == 0:
                del lines[place]
            elif what == 1:
                lines.insert(rng.randrange(len(lines)), lines[place])
            else:
                other = rng.randrange(len(lines))
                lines[place], lines[other] = lines[other], lines[place]
            data = b"".join(lines)
        done.append(f"text {kind}")
    return data, done


def mutate_member(data: bytes, seed: int) -> tuple[bytes, list[str]]:
    """Damage one member of a ZIP and put it back with the right checksum, so that it is read."""
    rng = random.Random(seed)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, EOFError):
        return mutate(data, seed)
    if not members:
        return mutate(data, seed)
    chosen = rng.randrange(len(members))
    info, content = members[chosen]
    as_text = info.filename.endswith((".json", ".txt", "version", "byteorder"))
    new, done = (mutate_text if as_text and rng.random() < 0.8 else mutate)(content or b"\0", seed)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for place, (one, kept) in enumerate(members):
            what = rng.randrange(60)
            if place == chosen and what == 0:
                continue
            copy = zipfile.ZipInfo(one.filename)
            copy.compress_type = one.compress_type
            archive.writestr(copy, new if place == chosen else kept)
    return target.getvalue(), [f"member {info.filename}", *done]


def damage(name: str, data: bytes, seed: int) -> tuple[bytes, list[str]]:
    """Damage a file as fits its name: text, archive or bytes."""
    rng = random.Random(f"{name} {seed}")
    is_text = name.endswith(
        (".csv", ".txt", ".json", ".jsonl", ".yaml", ".eaf", ".boris", ".tsv", ".list")
    )
    is_archive = name.endswith((".zip", ".npz", ".ckpt", ".pt2"))
    if not data:
        return rng.randbytes(16), ["random bytes"]
    if is_text and rng.random() < 0.75:
        return mutate_text(data, seed)
    if is_archive and rng.random() < 0.6:
        return mutate_member(data, seed)
    return mutate(data, seed)
