"""The methods paragraphs of a set of stimuli, in words that a paper can take over.

What all stimuli share is said once; what varies is a list or a range. Nothing is said that the table does not
hold: a column that it lacks is passed over.
"""

import posixpath
from collections.abc import Iterator

from stylebatch.errors import WeightsError
from stylebatch.recipe import START_NAMES, WEIGHT_NAMES
from stylebatch.report import wording
from stylebatch.report.gathering import Gathered, Values
from stylebatch.report.phrases import coded, counted, listed, plain, reach, shared, spread
from stylebatch.synthesis.families import known_family

MOST_SHAPES = 3
"""Widths and heights that are listed."""


def methods_text(found: Gathered, planned: int | None) -> str:
    """The Markdown of ``methods.md``.

    Args:
        found: What the rows of the set come to.
        planned: How many rows the job has; None if nobody knows.
    """
    paragraphs = ["# Methods", _account(found, planned)]
    if found.ok:
        writers = (_algorithm, _network, _losses, _images, _optimisation, _convergence, _appearance, _files)
        paragraphs += [" ".join(writer(found)) for writer in writers]
        paragraphs.append("## References\n\n" + "\n".join(f"- {work}" for work in _references(found)))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _account(found: Gathered, planned: int | None) -> str:
    """How many stimuli there are, and how many there are not."""
    text = f"The set has {counted(found.ok, 'stimulus')}."
    if found.failed:
        kinds = listed(f"{number} {coded(kind)}" for kind, number in found.failed.most_common())
        failed = counted(found.failed.total(), "pair")
        text += f" {failed} failed and left none ({kinds}); `error` in the table says why."
    if planned is not None and planned > found.rows:
        text += (
            f" **The job is not finished**: {found.rows} of its {planned} pairs are described here; write "
            "this text again when it is."
        )
    return text


def _algorithm(found: Gathered) -> Iterator[str]:
    stylebatch, torch = (
        shared(found.columns[name], plain) for name in ("stylebatch_version", "torch_version")
    )
    yield (
        "Stimuli were synthesized with the algorithm of Gatys, Ecker and Bethge (2015), as implemented in "
        f"stylebatch {stylebatch} with PyTorch {torch}: the pixels of an image are optimised so that its "
        "responses in a convolutional network match those of a content image, and the Gram matrices of its "
        "responses those of a style image."
    )
    numbers = ((found.kinds[kind], words) for kind, words in wording.KINDS.items())
    others = [f"{number} had {words}" for number, words in numbers if number]
    if others:
        yield f"Of these, {listed(others)}."


def _network(found: Gathered) -> Iterator[str]:
    columns = found.columns
    pooling = shared(columns["pooling"], plain)
    yield (
        "The network was VGG-19 (Simonyan & Zisserman, 2015), its convolutions and poolings alone, with zero "
        f"padding and {pooling} pooling; responses were taken after rectification."
    )
    names, hashes = columns["weights"], columns["weights_sha256"]
    if len(names.counts) == len(hashes.counts) == 1:
        family = _family(names.only, columns["weights_family"].only, hashes.only)
        yield f"Its weights were {_weights(names.only)}: family {family}; SHA-256 {coded(hashes.only)}."
    else:
        yield f"Its weights were {shared(names, _weights)}; files with the SHA-256 {shared(hashes, coded)}."


def _weights(name: str) -> str:
    return wording.WEIGHTS.get(name) or f"the file {_file(name)}"


def _file(location: str) -> str:
    """A file by its name, without its folder."""
    return coded(posixpath.basename(location))


def _family(name: str, stated: str | None, sha256: str) -> str:
    """The family of weights, and what it means."""
    try:
        family = stated or (name if name in WEIGHT_NAMES else known_family(sha256, name))
    except WeightsError:
        return "not stated"
    return f"{coded(family)} ({wording.FAMILIES[family]})"


def _losses(found: Gathered) -> Iterator[str]:
    columns = found.columns
    content, style = (shared(columns[name], plain) for name in ("content_layers", "style_layers"))
    yield (
        f"The content loss was the squared difference of responses in {content}, the style loss that of Gram "
        f"matrices, each over its number of positions, in {style}, "
        f"{_layer_weights(columns['style_layer_weights'])}."
    )
    ratio = f" (α/β = {spread(found.balances)})" if found.balances else ""
    yield (
        f"The content weight α was {spread(columns['content_weight'])}, the style weight β "
        f"{spread(columns['style_weight'])}{ratio}, in losses scaled "
        f"{shared(columns['convention'], _convention)}."
    )
    if columns["reference_size"]:
        yield (
            f"Weights are quoted at a longer side of {spread(columns['reference_size'])} pixels"
            f"{_where_given(found, 'reference_size')}: the content loss was scaled by the ratio of areas, so "
            "that the balance does not depend on the size."
        )
    if columns["tv_weight"].high > 0:
        yield (
            "Half the sum of squared differences of neighbouring pixels (total variation) was added with the "
            f"weight {spread(columns['tv_weight'])}."
        )


def _convention(name: str) -> str:
    return f"{wording.CONVENTIONS.get(name, name)} ({coded(name)})"


def _layer_weights(values: Values) -> str:
    if not values:
        return "all layers weighted alike"
    alike = f"; in {counted(values.nulls, 'stimulus')} all alike" if values.nulls else ""
    return f"weighted {shared(values, plain)} in that order{alike}"


def _where_given(found: Gathered, column: str) -> str:
    """In how many stimuli a column has a value, unless in all."""
    return _in_some(found, found.columns[column])


def _in_some(found: Gathered, values: Values) -> str:
    """How many stimuli have a value, unless all have."""
    given = found.ok - values.nulls
    return "" if given == found.ok else f" (in {counted(given, 'stimulus')})"


def _images(found: Gathered) -> Iterator[str]:
    columns = found.columns
    contents, styles = len(columns["content_sha256"].counts), len(found.styles)
    sources = [
        counted(number, image)
        for number, image in ((contents, "content image"), (styles, "style image"))
        if number
    ]
    yield f"Stimuli are {_sizes(found)}, made from {listed(sources)}." if sources else f"{_sizes(found)}."
    several = sum(number for styles, number in found.style_counts.items() if styles > 1)
    if several:
        blend = columns["style_blend"]
        shares = f"shares {shared(blend, plain)}" if blend else "equal shares"
        yield (
            f"In {counted(several, 'stimulus')} several style images were blended: the target was the mean "
            f"of their Gram matrices ({shares})."
        )
    for column, image in (("content_crop", "content"), ("style_crop", "style")):
        if columns[column]:
            yield (
                f"Of the {image} images only a part was used{_where_given(found, column)}: {coded(column)} "
                "in the table gives left, top, width and height in pixels."
            )
    yield (
        "Source images were converted to sRGB where they carried a colour profile, and resized by Lanczos "
        "resampling of their sRGB values."
    )
    if columns["style_size"]:
        yield (
            f"The longer side of the style images was {spread(columns['style_size'])} pixels"
            f"{_where_given(found, 'style_size')}."
        )


def _sizes(found: Gathered) -> str:
    if len(found.shapes) == 1:
        ((width, height),) = found.shapes
        return f"{width} x {height} pixels (width x height)"
    if len(found.shapes) <= MOST_SHAPES:
        shapes = found.shapes.most_common()
        return f"{listed(f'{wide} x {high} ({number})' for (wide, high), number in shapes)} pixels"
    widths, heights = found.columns["width"], found.columns["height"]
    return f"{reach(widths, 6)} pixels wide and {reach(heights, 6)} pixels high"


def _optimisation(found: Gathered) -> Iterator[str]:
    columns = found.columns
    seeds = f", seeded with {spread(found.seeds)}" if found.seeds else ""
    yield f"Optimisation started from {shared(columns['start'], _start)}{seeds}."
    has_sizes = columns["scales"].high > 1
    if has_sizes:
        yield (
            f"The number of sizes was {spread(columns['scales'])}: stimuli were made coarse to fine, each "
            "size twice the side of the one before, but none with a side under 64 pixels."
        )
    yield (
        f"The loss was minimised by {shared(columns['optimizer'], lambda name: _optimiser(name, found))}, "
        f"with at most {spread(columns['iterations'])} evaluations of loss and gradient"
        f"{' at each size' if has_sizes else ''}; "
        f"{shared(columns['bounds'], lambda name: wording.BOUNDS.get(name, name))}."
    )
    if tolerance := columns["tolerance"].above_zero:
        yield (
            "It ended earlier where 20 evaluations lowered the loss by less than the fraction "
            f"{spread(tolerance)} of it{_in_some(found, tolerance)}."
        )
    if tolerance := columns["residual_tolerance"].above_zero:
        yield (
            "It ended earlier where the residual of no layer (see below) was larger than "
            f"{spread(tolerance)}{_in_some(found, tolerance)}."
        )


def _start(start: str) -> str:
    return wording.STARTS[start] if start in START_NAMES else f"a given image ({_file(start)})"


def _optimiser(name: str, found: Gathered) -> str:
    if name == "adam":
        return f"Adam (Kingma & Ba, 2015) with a step of {spread(found.columns['learning_rate'])} grey levels"
    return (
        f"L-BFGS (Liu & Nocedal, 1989) with a history of {spread(found.histories)} pairs and a "
        "backtracking line search"
    )


def _convergence(found: Gathered) -> Iterator[str]:
    columns = found.columns
    at_size = " at the final size" if columns["scales"].high > 1 else ""
    reasons = shared(columns["stop_reason"], lambda name: wording.STOPS.get(name, coded(name)))
    yield (
        f"{reach(columns['evaluations'], 7)} evaluations were used{at_size}. Optimisation ended because "
        f"{reasons}."
    )
    if columns["loss_change"]:
        change = reach(columns["loss_change"])
        yield f"Over the last 20 evaluations the loss fell by {change} of its last value."
    if columns["loss"]:
        yield f"The loss of the published images was {reach(columns['loss'], 4)}."
    residuals = found.named["layer_residuals"]
    if residuals:
        each = listed(f"{_layer(key)} {reach(values)}" for key, values in residuals.items())
        yield (
            "Residuals of the published images (the distance of their responses or Gram matrices from the "
            f"targets, over the norm of the targets) were, by layer: {each}."
        )
    if columns["clipped_fraction"]:
        yield (
            f"Of the optimised pixel values a share of {reach(columns['clipped_fraction'])} lay outside 0 to "
            "255 and was clipped."
        )
    yield "Every loss and residual is that of the image as published, after clipping and quantisation."


def _layer(key: str) -> str:
    """``content_conv4_2`` as ``conv4_2 (content)``."""
    term, _, layer = key.partition("_")
    return f"{layer} ({term})"


def _appearance(found: Gathered) -> Iterator[str]:
    columns = found.columns
    asked = [_asked(found, name, words) for name, words in wording.APPEARANCE.items() if columns[name]]
    if not asked:
        return
    light = shared(columns["light"], lambda name: wording.LIGHTS.get(name, name))
    yield f"The optimised images were then given {listed(asked)}, measured in {light}."
    achieved = found.named["achieved"]
    if achieved:
        each = listed(f"{name.replace('_', ' ')} {reach(values, 4)}" for name, values in achieved.items())
        yield f"Achieved in the published images: {each}."
    if found.adjusted_clipped:
        yield (
            f"This left a share of {reach(found.adjusted_clipped)} of the values outside 0 to "
            "255, which was clipped."
        )


def _asked(found: Gathered, name: str, words: str) -> str:
    values = found.columns[name]
    is_number = name in ("mean_luminance", "rms_contrast")
    wanted = spread(values) if is_number else shared(values, _reference)
    return f"the {words} of {wanted}{_where_given(found, name)}"


def _reference(name: str) -> str:
    return wording.REFERENCES.get(name) or _file(name)


def _files(found: Gathered) -> Iterator[str]:
    columns = found.columns
    formats = shared(columns["format"], lambda name: wording.FORMATS.get(name, name))
    quality = f", quality {spread(columns['quality'])}" if "jpeg" in columns["format"].counts else ""
    yield f"Stimuli were published as {formats}{quality}."
    yield (
        "Pixel values are nonlinear sRGB values: the transfer function of IEC 61966-2-1 turns them into "
        "linear light, of which 0.2126 R + 0.7152 G + 0.0722 B is the relative luminance."
    )
    batches = columns["batch"]
    together = f", up to {plain(batches.high)} images in one batch" if batches.high > 1 else ""
    devices = shared(columns["device"], lambda name: wording.DEVICES.get(name, name))
    yield f"They were computed on {devices}{together}."
    yield (
        "`stimuli.tsv` lists for every stimulus its source images, its whole recipe, its seed, its losses, "
        "and the SHA-256 of every file; `stimuli.json` explains its columns."
    )


def _references(found: Gathered) -> Iterator[str]:
    """The works that the text cites, by author."""
    optimisers = found.columns["optimizer"].counts
    yield wording.GATYS
    yield wording.SRGB
    if "adam" in optimisers:
        yield wording.ADAM
    if "lbfgs" in optimisers:
        yield wording.LBFGS
    if "recoloured" in found.columns["start"].counts:
        yield wording.PITIE
    yield wording.VGG
