"""What every column of the results means: a name in words, a sentence, the unit, the values it may have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column as a data dictionary explains it."""

    long_name: str
    """In words."""
    description: str
    """One or two sentences."""
    units: str | None = None
    """None: it has none."""
    levels: Mapping[str, str] | None = None
    """What each possible value means; None where values are free."""

    def entry(self) -> dict[str, Any]:
        """The same by the keys that a BIDS sidecar file has."""
        named = {"LongName": self.long_name, "Description": self.description}
        given = {"Units": self.units, "Levels": dict(self.levels) if self.levels else None}
        return named | {key: value for key, value in given.items() if value is not None}


PIXELS = "pixels"
FRACTION = "fraction, 0 to 1"
EVALUATIONS = "evaluations (one forward and backward pass each)"
LOSS = "the units of the loss, which the convention and the weights set"
SHA256 = "64 hexadecimal digits"
GREY_LEVELS = "grey levels of 0 to 255"
RELATIVE = "ratio"

PAIR_COLUMNS: Mapping[str, Column] = {
    "pair_id": Column("Stimulus", "Name of the pair and of its stimulus; unique in the set."),
    "row": Column("Manifest row", "Row of the manifest that asked for the stimulus, counted from 0."),
    "status": Column(
        "Status",
        "Whether the pair has a stimulus.",
        levels={
            "ok": "the stimulus was made and published",
            "failed": "there is no stimulus; error says why",
        },
    ),
    "content": Column(
        "Content image", "Location of the image whose objects and arrangement are kept; null for a texture."
    ),
    "style": Column(
        "Style images",
        "Locations of the images whose appearance is taken; an empty list for a content reconstruction.",
    ),
    "image": Column("Stimulus file", "Location of the published picture when it was made."),
}
"""Which pair a row is about."""

RECIPE_COLUMNS: Mapping[str, Column] = {
    "content_weight": Column(
        "Content weight", "α of equation (7) of Gatys, Ecker & Bethge (2015), in the convention's own units."
    ),
    "style_weight": Column(
        "Style weight", "β of equation (7), in the convention's own units; higher gives more style."
    ),
    "content_layers": Column("Content layers", "Layers of the network that equation (1) compares."),
    "style_layers": Column(
        "Style layers", "Layers of the network whose Gram matrices equation (5) compares."
    ),
    "style_layer_weights": Column(
        "Style layer weights",
        "w_l of equation (5), one for each style layer in their order; null: 1 over the number of layers in "
        "the convention paper, 1 each in the others.",
    ),
    "style_blend": Column(
        "Style shares",
        "Shares of several style images in the target Gram matrices, scaled to sum to 1; null: equal shares.",
    ),
    "convention": Column(
        "Loss convention",
        "How the content and style losses are scaled.",
        levels={
            "paper": "equations (1) to (7) of the paper",
            "gatys-code": "the authors' later program: mean squared errors, over squared numbers of filters",
            "neural-style": "Johnson's program neural-style, and its ports",
        },
    ),
    "bounds": Column(
        "Bounds of pixel values",
        "What keeps pixel values displayable during the optimisation.",
        levels={
            "soft": "a penalty on values outside 0 to 255 joins the loss",
            "clip": "nothing; values are clipped once, when the picture is written",
            "hard": "every step stays within 0 to 255",
        },
    ),
    "pooling": Column(
        "Pooling",
        "The network's pooling over 2 x 2 positions.",
        levels={"average": "their mean, as the paper recommends", "max": "their largest value"},
    ),
    "weights": Column(
        "Network weights",
        "Weights of VGG-19: caffe (the original ones), torchvision, or the location of a file.",
    ),
    "weights_family": Column(
        "Weights family",
        "The input that a weights file wants; null: known from its name or its checksum.",
        levels={
            "caffe": "BGR of 0 to 255 minus the training set's means",
            "torchvision": "RGB of 0 to 1, by ImageNet's means and standard deviations",
            "caffe-normalised": "input as caffe; filters scaled to a mean response of 1",
        },
    ),
    "size": Column(
        "Longer side asked for", "Longer side of the stimulus; null: another rule sizes it.", PIXELS
    ),
    "shorter_side": Column(
        "Shorter side asked for", "Shorter side of the stimulus; null: another rule sizes it.", PIXELS
    ),
    "pixels": Column(
        "Area asked for", "Width times height of the stimulus; null: another rule sizes it.", PIXELS
    ),
    "style_size": Column(
        "Longer side of the styles",
        "Longer side at which the style images are used; null: the rule that sizes the stimulus.",
        PIXELS,
    ),
    "content_crop": Column(
        "Content crop",
        "The part of the upright content image that is used: left, top, width, height; null: all of it.",
        PIXELS,
    ),
    "style_crop": Column(
        "Style crop",
        "The part of each upright style image that is used: left, top, width, height; null: all of it.",
        PIXELS,
    ),
    "reference_size": Column(
        "Reference size",
        "Longer side at which the two weights are quoted; the content loss is scaled by the ratio of areas. "
        "Null: the weights hold as they stand.",
        PIXELS,
    ),
    "scales": Column(
        "Sizes asked for",
        "Sizes at which the picture was to be made one after the other, each twice the side of the one "
        "before; halves with a side under 64 pixels are left out.",
    ),
    "start": Column(
        "Start image",
        "Where the optimiser starts: one of the levels, or the location of an image.",
        levels={
            "noise": "uniform white noise drawn from the seed",
            "content": "the content image",
            "recoloured": "the content image with the mean and covariance of the style's colours",
            "scrambled": "the content image with spectral phases drawn from the seed",
        },
    ),
    "seed": Column("Seed", "Seeds white noise and random phases; other starts do not use it."),
    "optimizer": Column(
        "Optimiser",
        "What minimises the loss.",
        levels={
            "lbfgs": "L-BFGS with a backtracking line search",
            "adam": "Adam with a constant step",
        },
    ),
    "learning_rate": Column("Adam's step", "Step length of adam; lbfgs does not use it.", GREY_LEVELS),
    "iterations": Column(
        "Evaluations allowed", "The most evaluations of loss and gradient at each size.", EVALUATIONS
    ),
    "history": Column(
        "L-BFGS history",
        "Curvature pairs that L-BFGS keeps; null: 100 at sizes up to 128 x 128 pixels, 50 at larger ones.",
        "pairs",
    ),
    "tolerance": Column(
        "Stopping tolerance",
        "The optimiser stops when 20 evaluations lower the loss by less than this fraction of it; 0: never.",
        FRACTION,
    ),
    "residual_tolerance": Column(
        "Residual tolerance",
        "The optimiser stops when the residual of no layer is larger; 0: never for that reason.",
        RELATIVE,
    ),
    "tv_weight": Column(
        "Total variation weight",
        "Weight of half the sum of squared differences of neighbouring pixels; 0: not in the loss.",
    ),
    "mean_luminance": Column(
        "Mean luminance asked for",
        "Mean luminance that the published picture is given, 1 being white; null: whatever it has.",
        FRACTION,
    ),
    "rms_contrast": Column(
        "RMS contrast asked for",
        "Standard deviation of the luminance over its mean that the picture is given; null: whatever it has.",
        RELATIVE,
    ),
    "histogram": Column(
        "Histogram asked for",
        "The image whose histogram each channel is given: content, style, or a location; null: none.",
    ),
    "spectrum": Column(
        "Spectrum asked for",
        "The image whose amplitude spectrum, averaged over orientations, the luminance is given: content, "
        "style, or a location; null: none.",
    ),
    "light": Column(
        "Light",
        "Where luminance, contrast, histogram and spectrum are measured and changed.",
        levels={
            "linear": "in linear light, after the sRGB transfer function is undone",
            "srgb": "in sRGB values as they are stored",
        },
    ),
    "format": Column(
        "File format",
        "How the published picture is stored.",
        levels={
            "png": "8-bit PNG",
            "jpeg": "8-bit JPEG, chroma not subsampled",
            "tiff": "16-bit TIFF",
            "npy": "float32 NumPy array (height, width, 3), values 0 to 255",
        },
    ),
    "quality": Column("JPEG quality", "Quality of a JPEG file; other formats do not use it.", "1 to 100"),
}
"""What was asked for: a column a field of the recipe."""

OUTCOME_COLUMNS: Mapping[str, Column] = {
    "recipe_sha256": Column("Recipe hash", "SHA-256 of all recipe fields as canonical JSON.", SHA256),
    "width": Column("Width", "Width of the published picture.", PIXELS),
    "height": Column("Height", "Height of the published picture.", PIXELS),
    "loss": Column("Loss", "Equation (7) of the published picture, with its total variation term.", LOSS),
    "content_loss": Column(
        "Content loss", "α times the content loss of the published picture, summed over layers.", LOSS
    ),
    "style_loss": Column(
        "Style loss", "β times the style loss of the published picture, summed over layers.", LOSS
    ),
    "layer_losses": Column(
        "Loss by layer",
        "The parts of content_loss and style_loss, by content_ or style_ and the layer's name.",
        LOSS,
    ),
    "layer_residuals": Column(
        "Residual by layer",
        "Distance of the published picture's responses (content_) or Gram matrix (style_) from the target's, "
        "over the size (norm) of the target itself; 0 is a perfect match.",
        RELATIVE,
    ),
    "solver_loss": Column(
        "Solver's loss",
        "Loss of the optimiser's last image, before it was clipped, adjusted and quantised; without the "
        "penalty of soft bounds.",
        LOSS,
    ),
    "loss_curve": Column(
        "Loss curve",
        "Loss of the optimiser's best image after each evaluation at the picture's own size.",
        LOSS,
    ),
    "loss_change": Column(
        "Last change of the loss",
        "Fall of the loss over the last 20 evaluations, over the last loss: near 0 where the optimiser has "
        "converged; above 1 where the loss more than halved.",
        RELATIVE,
    ),
    "clipped_fraction": Column(
        "Clipped values", "Share of the optimiser's pixel values that lay outside 0 to 255.", FRACTION
    ),
    "achieved": Column(
        "Appearance achieved",
        "What was measured in the published picture of what was asked of its appearance: mean_luminance, "
        "rms_contrast, histogram_distance, spectrum_distance.",
    ),
    "adjusted_clipped_fraction": Column(
        "Values clipped by the adjustment",
        "Share of the pixel values that lay outside 0 to 255 after the picture's appearance was adjusted.",
        FRACTION,
    ),
    "evaluations": Column(
        "Evaluations used", "Evaluations of loss and gradient at the picture's own size.", EVALUATIONS
    ),
    "smaller_evaluations": Column(
        "Evaluations at smaller sizes",
        "Evaluations used at each smaller size before, the smallest first.",
        EVALUATIONS,
    ),
    "stop_reason": Column(
        "Stop reason",
        "Why the optimiser ended at the picture's own size.",
        levels={
            "iterations": "the evaluations allowed were used up",
            "converged": "20 evaluations lowered the loss by less than the tolerance, or its gradient is 0",
            "matched": "no layer's residual was above the recipe's residual_tolerance",
            "no_descent": "no step along the gradient lowered the loss any further",
            "not_finite": "the loss was not finite (such a pair fails)",
        },
    ),
    "seconds": Column("Time", "Seconds of synthesis; of a batch, shared equally.", "s"),
    "attempts": Column("Attempts", "How often the pair was tried."),
    "batch": Column("Batch", "Pictures that were made together in the same forward passes."),
    "target_hits": Column(
        "Targets reused", "Targets, each of one image and layer, that the worker had at hand."
    ),
    "target_misses": Column("Targets computed", "Targets that were computed for this pair."),
    "device": Column(
        "Device",
        "Kind of processor that did the synthesis, by PyTorch's name.",
        levels={"cpu": "the machine's processor", "cuda": "a GPU"},
    ),
    "host": Column("Machine", "Name of the machine that did the synthesis."),
    "content_sha256": Column("Content hash", "SHA-256 of the content image's file.", SHA256),
    "style_sha256": Column("Style hashes", "SHA-256 of each style image's file.", SHA256),
    "start_sha256": Column(
        "Start hash", "SHA-256 of the start image's file; null unless start is a location.", SHA256
    ),
    "histogram_sha256": Column(
        "Histogram reference hash",
        "SHA-256 of the file that gives the histogram; null unless histogram is a location.",
        SHA256,
    ),
    "spectrum_sha256": Column(
        "Spectrum reference hash",
        "SHA-256 of the file that gives the spectrum; null unless spectrum is a location.",
        SHA256,
    ),
    "weights_sha256": Column("Weights hash", "SHA-256 of the network's weights file.", SHA256),
    "image_sha256": Column("Stimulus hash", "SHA-256 of the published file.", SHA256),
    "stylebatch_version": Column("stylebatch version", "Version of stylebatch that made the row."),
    "torch_version": Column("PyTorch version", "Version of PyTorch that did the synthesis."),
    "error_type": Column("Kind of error", "Class of the error of a failed pair."),
    "error": Column("Error", "Why a failed pair has no stimulus."),
}
"""What came of it."""

COLUMNS: Mapping[str, Column] = {**PAIR_COLUMNS, **RECIPE_COLUMNS, **OUTCOME_COLUMNS}
"""Every column of the results by name."""


def described(name: str) -> Column:
    """A column of the results; any other is one of the manifest's own."""
    own = Column(name, "The experiment's own column of the manifest, carried through untouched.")
    return COLUMNS.get(name, own)
