"""How long one training step takes: the engine beside the same step written by hand.

    python -m benchmarks                    all cases
    python -m benchmarks --quick            a first impression, in seconds
    python -m benchmarks --case tiny-sgd    one case
    python -m benchmarks --peers            other libraries too, where installed

==================  ====================================================================
case                a network, its batch and its optimizer: ``cases.py``
contestant          who takes the training steps: ``handwritten.py`` (the yardstick, and
                    worth reading on its own), ``tuned.py`` (the same with every trick),
                    ``contestants.py`` (the others)
turn                steps that one contestant takes without interruption
round               one turn of each contestant, in rotating order: ``measure.py``
ratio               the median time of a step over that of the handwritten step
==================  ====================================================================

All contestants start from the same parameters and see the same batches, and
``tests/test_benchmarks.py`` checks that they arrive at the same parameters. Nothing
else should run meanwhile: where the load is above the number of cores, long steps are
interrupted more often than short ones, and the ratios are too large.
"""
