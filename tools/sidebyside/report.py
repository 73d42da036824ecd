"""Turns runs into a table with medians, and holds them against what was promised."""

import dataclasses
import json
import platform
import statistics

MIB = 1 << 20
MEMORY_LIMIT_BYTES = 256 * MIB
OURS = ("failback", "failback-process-server", "failback-master-target")


def median(runs, field):
    """The median of one figure, or None where it is not known."""
    values = [getattr(run, field) for run in runs]
    return None if None in values else statistics.median(values)


def paired_ratio(result, slower, faster):
    """Median over the runs of slower/faster, each pair taken side by side."""
    pairs = zip(result.runs[slower], result.runs[faster])
    return statistics.median(a.seconds / b.seconds for a, b in pairs)


def peak_cell(runs):
    """The median sum of peaks, and each process's own where there are several."""
    total = f"{median(runs, 'peak_bytes') / MIB:.0f}"
    each = [f"{statistics.median(run.peaks[name] for run in runs) / MIB:.0f}" for name in runs[0].peaks]
    return total if len(each) == 1 else f"{total} ({' + '.join(each)})"


def rows(result):
    """One row of the table for each contender of a case."""
    for name in result.failures:
        yield (result.case.letter, name, "**failed**", *[""] * 8)
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
            peak_cell(runs),
            "" if wire is None else f"{wire / 1e6:.1f}",
            number(median(runs, "rate_bytes"), 1e6),
            number(median(runs, "emulator_seconds"), 1),
        )


def number(value, unit):
    """A cell with one figure, or nothing where it is not known."""
    return "" if value is None else f"{value / unit:.1f}"


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
            ("a: daemons / ours", "daemons", "ours", 1.15, True),
            ("b: daemons / ours", "daemons", "ours", 1.15, True),
            ("c: daemons / ours", "daemons", "ours", 1.30, True),
            ("d: nbdcopy over TLS / daemons", "nbdcopy-tls", "daemons", 2.0, False),
            ("d: nbdcopy without TLS / daemons", "nbdcopy", "daemons", 1.0, False),
            ("d: daemons / cp --sparse=auto (aim)", "daemons", "cp", 2.0, True),
            *(
                (f"{letter}: {title} / daemons", peer, "daemons", 1.6, False)
                for letter in "et"
                for title, peer in (("nbdcopy", "nbdcopy"), ("rsync, whole", "rsync-whole"))
            ),
        ):
            if text[0] == case and slower in names and faster in names:
                ratio = paired_ratio(result, slower, faster)
                yield text, ratio, bound, ratio <= bound if at_most else ratio >= bound
        if "iperf3" in names and "daemons" in names:
            ratio = ratio_of_rates(names["daemons"], names["iperf3"])
            if ratio is not None:
                yield f"{case}: bytes a second after 2 s, daemons / iperf3", ratio, 0.95, ratio >= 0.95
        fixed = [name for name in names if name.startswith("daemons-z")]
        if fixed and "daemons" in names:
            best = min(fixed, key=lambda name: median(names[name], "seconds"))
            ratio = paired_ratio(result, "daemons", best)
            yield f"{case}: level by itself / best fixed level, {best} (aim)", ratio, 1.05, ratio <= 1.05
        wire_bound = {"b": 1.015, "c": 1.02}.get(case)
        for name in (name for name in ("ours", "daemons") if name in names):
            if wire_bound:
                ratio = median(names[name], "to_target_bytes") / result.changed_bytes
                yield f"{case}: bytes to the target / changed pages, {name}", ratio, wire_bound, ratio <= wire_bound
            for program, peak in peaks(names[name]).items():
                if program in OURS:
                    text = f"{case}: peak memory of {program}, {name}, MiB"
                    yield text, peak / MIB, MEMORY_LIMIT_BYTES / MIB, peak <= MEMORY_LIMIT_BYTES


def ratio_of_rates(runs, others):
    """Of the medians; None where a run was too short for a rate."""
    rate, other = median(runs, "rate_bytes"), median(others, "rate_bytes")
    return None if rate is None or other is None else rate / other


def peaks(runs):
    """The most that any run of each program had."""
    most = {}
    for run in runs:
        for program, peak in run.peaks.items():
            most[program] = max(most.get(program, 0), peak)
    return most


def table(head, body):
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in body]
    return "\n".join(lines)


def markdown(results, size_bytes, runs):
    """The whole result, to read."""
    head = ("case", "contender", "median s", "from–to", "× ours", "CPU s", "peak MiB", "wire MB", "MB/s", "emulator s")
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
        + "CPU and peak memory are those of all processes of a contender; a peak is the sum of its processes' peaks, with\n"
        "each one's own behind it, none below that of the harness that starts them, about 17 MiB. The daemons' are the\n"
        "process server's and the master target's; their time is from the request on the control socket to the sealed\n"
        "event, the target as durable as every other's.\n"
        "Wire bytes: ours and the daemons' are encoded frames both ways, rsync's its own count, the others' what crossed\n"
        "loopback or the link.\n"
        "MB/s: bytes of TCP streams (TLS records where there are any) that came to the target, from 2 s on until the\n"
        "stream thinned out. Emulator: processor time of the program that carries the packets, on the same processors.\n"
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
