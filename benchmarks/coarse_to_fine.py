"""Pictures at one size against pictures made at smaller sizes first, in equal time.

    python benchmarks/coarse_to_fine.py [OUTPUT.jpg]

makes two pairs with the preset ``photo`` from the content, at three sizes and at one, and shows them side by
side: content and style, one size, three sizes. An evaluation at half the side counts as a quarter.
"""

import sys
from pathlib import Path

import torch
from photographs import photograph
from PIL import Image

from stylebatch import PRESETS, Recipe, stylize, to_pillow

SIDE = 256
PAIRS = (("chelsea", "ihc"), ("coffee", "hubble_deep_field"))
EVALUATIONS = PRESETS["photo"]["iterations"]
"""At each of three sizes."""
EQUALLY_LONG = round(EVALUATIONS * (1 + 1 / 4 + 1 / 16))
"""At one size."""


def main(output: Path) -> None:
    """Make the pictures, print their losses, store the sheet."""
    print("| pair | sizes | evaluations | loss | content | style |")
    print("|---|---|---|---|---|---|")
    rows = []
    for names in PAIRS:
        content, style = (to_pillow(photograph(name, SIDE).round().clamp(0, 255)) for name in names)
        row = [content, style.resize(content.size)]
        for scales, iterations in ((1, EQUALLY_LONG), (3, EVALUATIONS)):
            recipe = Recipe.preset(
                "photo", start="content", size=SIDE, scales=scales, iterations=iterations, tolerance=0
            )
            made = stylize(content, style, recipe)
            row.append(to_pillow(made.image))
            used = " + ".join(map(str, (*made.smaller_evaluations, made.evaluations)))
            losses = f"{made.loss:.3g} | {made.content_loss:.3g} | {made.style_loss:.3g}"
            print(f"| {', '.join(names)} | {scales} | {used} | {losses} |", flush=True)
        rows.append(row)
    sheet(rows).save(output, quality=90)


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Pictures in rows, each row as high as its first picture."""
    width = sum(picture.width for picture in rows[0])
    found = Image.new("RGB", (width, sum(row[0].height for row in rows)))
    down = 0
    for row in rows:
        across = 0
        for picture in row:
            found.paste(picture, (across, down))
            across += picture.width
        down += row[0].height
    return found


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "coarse-to-fine.jpg"))
