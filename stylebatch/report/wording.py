"""What the values of a recipe are called in a methods section, and the works that it cites."""

from collections.abc import Mapping

GATYS = (
    "Gatys, L. A., Ecker, A. S., & Bethge, M. (2015). A neural algorithm of artistic style. arXiv:1508.06576."
)
VGG = (
    "Simonyan, K., & Zisserman, A. (2015). Very deep convolutional networks for large-scale image "
    "recognition. ICLR 2015. arXiv:1409.1556."
)
LBFGS = (
    "Liu, D. C., & Nocedal, J. (1989). On the limited memory BFGS method for large scale optimization. "
    "Mathematical Programming, 45, 503-528."
)
ADAM = (
    "Kingma, D. P., & Ba, J. (2015). Adam: A method for stochastic optimization. ICLR 2015. arXiv:1412.6980."
)
PITIE = (
    "Pitié, F., & Kokaram, A. (2007). The linear Monge-Kantorovitch linear colour mapping for example-based "
    "colour transfer. CVMP 2007."
)
SRGB = (
    "IEC 61966-2-1:1999. Multimedia systems and equipment - Colour measurement and management - Part 2-1: "
    "Default RGB colour space - sRGB."
)

KINDS: Mapping[str, str] = {
    "texture": "a style alone (textures)",
    "reconstruction": "a content alone (content reconstructions)",
}
CONVENTIONS: Mapping[str, str] = {
    "paper": "to the letter of the paper's equations 1 to 7",
    "gatys-code": "as in the later program of the paper's authors",
    "neural-style": "as in Johnson's program neural-style",
}
STARTS: Mapping[str, str] = {
    "noise": "uniform white noise",
    "content": "the content image",
    "recoloured": "the content image, given the mean and covariance of the style's colours by a linear map "
    "of its RGB values (Pitié & Kokaram, 2007)",
    "scrambled": "the content image with the phases of its Fourier spectrum drawn at random",
}
BOUNDS: Mapping[str, str] = {
    "soft": "a penalty kept pixel values within 0 to 255",
    "hard": "every step was confined to pixel values of 0 to 255",
    "clip": "pixel values were free, and clipped to 0 to 255 once at the end",
}
STOPS: Mapping[str, str] = {
    "iterations": "the evaluations allowed were used up",
    "converged": "the loss had converged",
    "matched": "every layer's residual was within the tolerance",
    "no_descent": "no step lowered the loss any further",
}
FORMATS: Mapping[str, str] = {
    "png": "8-bit PNG files",
    "jpeg": "8-bit JPEG files (chroma not subsampled)",
    "tiff": "16-bit TIFF files",
    "npy": "NumPy arrays of float32 values from 0 to 255",
}
DEVICES: Mapping[str, str] = {"cpu": "CPUs", "cuda": "GPUs (CUDA)"}
WEIGHTS: Mapping[str, str] = {
    "caffe": "the original ones, quantised to 8 bits (`caffe`)",
    "torchvision": "torchvision's IMAGENET1K_V1 (`torchvision`)",
}
FAMILIES: Mapping[str, str] = {
    "caffe": "input BGR of 0 to 255 minus the training set's mean",
    "torchvision": "input RGB of 0 to 1, by ImageNet's mean and standard deviation",
    "caffe-normalised": "filters rescaled to a mean response of 1, input BGR of 0 to 255 minus the mean",
}
APPEARANCE: Mapping[str, str] = {
    "mean_luminance": "mean luminance",
    "rms_contrast": "RMS contrast (standard deviation over mean of the luminance)",
    "histogram": "histogram of each channel",
    "spectrum": "orientation-averaged amplitude spectrum of the luminance",
}
LIGHTS: Mapping[str, str] = {"linear": "linear light", "srgb": "sRGB values"}
REFERENCES: Mapping[str, str] = {"content": "the content image", "style": "the style image"}
