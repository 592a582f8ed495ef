"""What people preferred: a score with its interval for each method, and the votes of each pair."""

from pathlib import Path

from edgekeeper.evaluation.study import StudyResult
from edgekeeper.figures.canvas import COLOURS, PALE, figure_file


def votes(found: StudyResult, *, path: str | Path) -> Path:
    """Return the file with the Bradley-Terry scores beside the shares of votes.

    Ties stand between both methods of a pair; an interval of the rate that holds one half makes
    the line at one half lie within the black bar.
    """
    rows = max(len(found.scores), len(found.pairs))
    with figure_file(path, width=8.0, height=0.9 + 0.38 * rows) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        for place, (name, score) in enumerate(found.scores):
            assert score.low is not None and score.high is not None
            left.plot([score.low, score.high], [place, place], color=COLOURS[0], linewidth=2)
            left.plot([score.mean], [place], marker="o", color=COLOURS[0], label=name)
        left.axvline(0, color=PALE, linewidth=1, zorder=0)
        left.set_yticks(range(len(found.scores)), [name for name, _ in found.scores])
        left.invert_yaxis()
        left.margins(y=0.15)
        left.set_xlabel("Bradley-Terry score [95 %]")
        for place, pair in enumerate(found.pairs):
            start, total = 0.0, sum(pair.votes)
            for count, colour in zip(pair.votes, (COLOURS[0], PALE, COLOURS[1]), strict=True):
                share = count / total
                right.barh(place, share, left=start, color=colour, height=0.7)
                if share > 0.08:
                    right.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center")
                start += share
            right.plot([pair.rate.low, pair.rate.high], [place - 0.42] * 2, color="black")
        right.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
        right.set_xlim(0, 1)
        names = [f"{pair.a} | {pair.b}" for pair in found.pairs]
        right.set_yticks(range(len(found.pairs)), names)
        right.invert_yaxis()
        right.set_xlabel("first preferred, no difference, second; black: the rate, 95 %")
    return Path(path)
