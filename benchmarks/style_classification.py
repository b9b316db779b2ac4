"""Is style easier to read from Gram matrices than from the responses themselves? The paper's conjecture.

    python benchmarks/style_classification.py

Sixteen photographs, each painted by eight painters (see painters.py), are classified by painter with a linear
classifier on VGG-19's features of one layer. Half of the photographs train it, the other half test it, so
what it learns of a photograph does not help. The features: the responses averaged over positions (N numbers),
the Gram matrix, and the responses as they are (N M numbers, what the paper calls raw network activations);
the latter two whole, and projected at random to N numbers. Needs the extra ``bench``.
"""

import sys
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from joblib import Parallel, delayed
from painters import PAINTERS, painted_set
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold

from stylebatch.pair.feature_request import FeatureSettings, gram_column
from stylebatch.pair.features import GramProjections, upper_triangle
from stylebatch.pair.networks import load_network
from stylebatch.pair.sparse_projection import SparseProjection
from stylebatch.recipe import PAPER_STYLE_LAYERS, Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.layers import layer_channels
from stylebatch.synthesis.losses import gram_matrix
from stylebatch.synthesis.vgg import VGG19

CONTENTS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "ihc", "moon", "motorcycle_left", "page", "retina", "rocket"),
)
PICTURES = 3
"""Of each photograph by each painter."""
SPLITS = 20
FOLDS = 4
"""Of the training photographs, to choose the classifier's C."""
STRENGTHS = (10.0, 100.0, 1e3, 1e4)
"""What C is chosen from; features are scaled so that a picture's squared length is 1 on average."""
BATCH = 16
PROCESSES = 2
SEED = 0
COMPARED = (("Gram to N", "averaged"), ("Gram to N", "raw to N"), ("Gram", "averaged"), ("Gram", "raw"))
"""Features whose accuracies are compared split by split."""


def layer_features(network: VGG19, pictures: np.ndarray, layer: str) -> dict[str, np.ndarray]:
    """Every kind of features of a layer, by its name: ``(B, length)``."""
    channels = layer_channels(layer)
    settings = FeatureSettings(layers=(layer,), project=channels, project_seed=SEED)
    parts = [_batch_features(network.responses(batch, [layer])[layer]) for batch in _batches(pictures)]
    averaged, gram, raw = (np.concatenate([part[kind] for part in parts]) for kind in range(3))
    return {
        "averaged": averaged,
        "Gram to N": GramProjections(settings)(gram_column(layer), gram),
        "raw to N": SparseProjection(raw.shape[1], channels, SEED, 0)(raw),
        "Gram": gram,
        "raw": raw,
    }


def _batches(pictures: np.ndarray) -> Iterator[torch.Tensor]:
    for first in range(0, len(pictures), BATCH):
        yield torch.from_numpy(pictures[first : first + BATCH]).permute(0, 3, 1, 2).float().contiguous()


def _batch_features(responses: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Averaged responses, upper triangles of Gram matrices, and the responses themselves."""
    grams = upper_triangle(gram_matrix(responses))
    return responses.mean((2, 3)).numpy(), grams.numpy(), responses.flatten(1).numpy()


def splits() -> Iterator[np.ndarray]:
    """Which photographs train, split after split."""
    chance = np.random.default_rng(SEED)
    for _ in range(SPLITS):
        yield chance.permutation(len(CONTENTS))[: len(CONTENTS) // 2]


def accuracy(features: np.ndarray, painters: np.ndarray, sources: np.ndarray, training: np.ndarray) -> float:
    """The share of the test pictures whose painter is recognised."""
    trains = np.isin(sources, training)
    seen, unseen = standardised(features[trains], features[~trains])
    search = GridSearchCV(LogisticRegression(max_iter=3000, tol=1e-3), {"C": STRENGTHS}, cv=GroupKFold(FOLDS))
    search.fit(seen, painters[trains], groups=sources[trains])
    return float(np.mean(search.predict(unseen) == painters[~trains]))


def standardised(training: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with the training set's means and deviations taken out, in as few numbers as hold them.

    A linear classifier with a penalty on its squared weights has them in the span of the training set, so
    coordinates in that span are all that counts: the classifier is the same as in the whole space.
    """
    mean, deviation = training.mean(0), training.std(0)
    deviation[deviation == 0] = 1
    deviation *= np.sqrt(training.shape[1])
    training, test = (training - mean) / deviation, (test - mean) / deviation
    products = (training @ training.T).astype(np.float64)
    values, vectors = np.linalg.eigh(products)
    kept = values > 1e-6 * values[-1]
    axes = vectors[:, kept] / np.sqrt(values[kept])
    return products @ axes, (test @ training.T) @ axes


def interval(values: np.ndarray) -> str:
    """The mean in per cent, and half the width of its 95 % interval.

    Splits share photographs, so they are not independent: the variance of their mean is taken as
    s^2 (1/splits + test/training) after Nadeau and Bengio (Inference for the Generalization Error, 2003).
    Here the two sets are of one size.
    """
    spread = values.std(ddof=1) * np.sqrt(1 / len(values) + 1)
    return f"{100 * values.mean():.1f} ± {100 * student.ppf(0.975, len(values) - 1) * spread:.1f}"


def differences(accuracies: Mapping[str, np.ndarray]) -> list[str]:
    """Each comparison: the mean difference with its interval, and in how many splits it is positive."""
    found = []
    for one, other in COMPARED:
        values = accuracies[one] - accuracies[other]
        found.append(f"{interval(values)} ({np.sum(values > 0)}/{len(values)})")
    return found


def main() -> int:
    """Print both tables."""
    torch.set_num_threads(PROCESSES)
    pictures, painters, sources = painted_set(CONTENTS, PICTURES, SEED)
    network = load_network(Recipe(), UriStore(), deepest=PAPER_STYLE_LAYERS[-1])
    trainings = list(splits())
    print(f"{len(pictures)} pictures, {len(PAINTERS)} painters; chance is {100 / len(PAINTERS):.1f} %")
    compared = []
    for number, layer in enumerate(PAPER_STYLE_LAYERS):
        accuracies = {
            kind: np.array(
                Parallel(PROCESSES)(delayed(accuracy)(features, painters, sources, one) for one in trainings)
            )
            for kind, features in layer_features(network, pictures, layer).items()
        }
        if not number:
            print(f"| layer | N | {' | '.join(accuracies)} |\n|---|---|{'---|' * len(accuracies)}")
        cells = " | ".join(interval(values) for values in accuracies.values())
        print(f"| {layer} | {layer_channels(layer)} | {cells} |", flush=True)
        compared.append((layer, differences(accuracies)))
    print("\n| layer | " + " | ".join(f"{one} - {other}" for one, other in COMPARED) + " |")
    print("|---|" + "---|" * len(COMPARED))
    for layer, each in compared:
        print(f"| {layer} | {' | '.join(each)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
