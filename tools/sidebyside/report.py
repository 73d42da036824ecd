"""Turns runs into a table with medians, and holds them against what was promised."""

import dataclasses
import json
import platform
import statistics

MIB = 1 << 20
MEMORY_LIMIT_BYTES = 256 * MIB


def median(runs, field):
    """The median of one figure, or None where it is not known."""
    values = [getattr(run, field) for run in runs]
    return None if None in values else statistics.median(values)


def paired_ratio(result, slower, faster):
    """Median over the runs of slower/faster, each pair taken side by side."""
    pairs = zip(result.runs[slower], result.runs[faster])
    return statistics.median(a.seconds / b.seconds for a, b in pairs)


def rows(result):
    """One row of the table for each contender of a case."""
    for name in result.failures:
        yield (result.case.letter, name, "**failed**", "", "", "", "", "")
    for name, runs in result.runs.items():
        wire = median(runs, "wire_bytes")
        seconds = [run.seconds for run in runs]
        yield (
            result.case.letter,
            name,
            f"{statistics.median(seconds):.3f}",
            f"{min(seconds):.3f}–{max(seconds):.3f}",
            f"{paired_ratio(result, name, 'ours'):.2f}" if "ours" in result.runs else "",
            f"{median(runs, 'cpu_seconds'):.2f}",
            f"{median(runs, 'peak_bytes') / MIB:.0f}",
            "" if wire is None else f"{wire / 1e6:.1f}",
        )


def promises(results):
    """(text, measured, bound, kept) of every promise that these runs can judge."""
    for result in results:
        case, names = result.case.letter, result.runs
        for text, slower, faster, bound, at_most in (
            ("a: ours / bare, holes left out", "ours", "bare", 1.5, True),
            ("a: ours / bare, holes read too", "ours", "bare-dense", 1.5, True),
            ("a: ours / qemu-img compare over NBD", "ours", "qemu-compare", 1.0, True),
            ("b: rsync / ours", "rsync", "ours", 8.0, False),
            ("c: rsync / ours", "rsync", "ours", 12.0, False),
            ("d: ours / cp --sparse=auto", "ours", "cp", 1.5, True),
        ):
            if text[0] == case and slower in names and faster in names:
                ratio = paired_ratio(result, slower, faster)
                yield text, ratio, bound, ratio <= bound if at_most else ratio >= bound
        wire_bound = {"b": 1.015, "c": 1.02}.get(case)
        if "ours" not in names:
            continue
        if wire_bound:
            ratio = median(names["ours"], "to_target_bytes") / result.changed_bytes
            yield f"{case}: bytes to the target / changed pages", ratio, wire_bound, ratio <= wire_bound
        peak = max(run.peak_bytes for run in names["ours"])
        yield f"{case}: peak memory, MiB", peak / MIB, MEMORY_LIMIT_BYTES / MIB, peak <= MEMORY_LIMIT_BYTES


def table(head, body):
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in body]
    return "\n".join(lines)


def markdown(results, size_bytes, runs):
    """The whole result, to read."""
    head = ("case", "contender", "median s", "from–to", "× ours", "CPU s", "peak MiB", "wire MB")
    judged = [
        (text, f"{measured:.3f}", bound, "kept" if kept else "**missed**")
        for text, measured, bound, kept in promises(results)
    ]
    failed = [
        f"- case {result.case.letter}, {name}: {why}" for result in results for name, why in result.failures.items()
    ]
    return (
        f"Disk of {size_bytes >> 20} MiB, {runs} runs each, in turn; warm cache, durable at the end, checked with cmp.\n"
        f"{processor()}, {platform.system()} {platform.release()}.\n\n"
        f"{table(head, [row for result in results for row in rows(result)])}\n\n"
        f"{table(('promise', 'measured', 'bound', ''), judged)}\n\n"
        + ("Failed:\n\n" + "\n".join(failed) + "\n\n" if failed else "")
        + "CPU and peak memory are those of all processes of a contender; a peak is the sum of its processes' peaks,\n"
        "none below that of the harness that starts them, about 17 MiB.\n"
        "Wire bytes: ours are encoded frames both ways, rsync's its own count, the others' what crossed loopback.\n"
    )


def processor():
    """What ran it."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()


def as_json(results, size_bytes, runs):
    """The same, for programs."""
    cases = [
        {
            "case": result.case.letter,
            "title": result.case.title,
            "changed_bytes": result.changed_bytes,
            "failures": result.failures,
            "contenders": {name: [dataclasses.asdict(run) for run in done] for name, done in result.runs.items()},
        }
        for result in results
    ]
    return json.dumps({"size_bytes": size_bytes, "runs": runs, "cases": cases}, indent=2) + "\n"
