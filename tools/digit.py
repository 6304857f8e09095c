"""Make what the page "Draw a digit" shows: `python -m tools.digit [--pages]`.

Trains its network and writes book/web/digit-weights.js and, with what node computes from
it, the pictures and tables of the page in book/draw/. --pages: only these, from the
weights that are there. About a minute on two cores; it needs the real MNIST.
"""

import argparse

from lessons_src import data
from tools import digit_network, digit_pages


def main(only_pages: bool) -> None:
    """Write the weights, unless only the pages are asked for; then the pages."""
    mnist = data.load("mnist")
    if mnist.standin:
        raise SystemExit("the page's network needs the real MNIST, not the stand-in")
    if not only_pages:
        digit_network.train_and_write(mnist)
    digit_pages.write(mnist)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.digit", description=__doc__)
    parser.add_argument("--pages", action="store_true", help="do not train anew")
    main(parser.parse_args().pages)
