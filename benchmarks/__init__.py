"""Speed: the engine compared with the same step written by hand, and with others.

    python -m benchmarks                    all cases
    python -m benchmarks --quick            a first impression, in seconds
    python -m benchmarks --case tiny-sgd    one case
    python -m benchmarks --no-peers         without PyTorch and JAX
    python -m benchmarks --startup          from starting Python to a trained network
    python -m benchmarks --growth           how time grows with the size of a network

    case          a network, its batch, and its optimizer: cases.py
    contestant    an implementation of the training step: handwritten.py (the yardstick,
                  worth reading on its own), tuned.py (the same with every trick),
                  engine.py, and peers.py (other libraries, where installed)
    turn          the steps that one contestant takes without interruption
    round         one turn of each contestant, in rotating order: measure.py
    ratio         the time of a step divided by the time of the handwritten step; the
                  median over the rounds

All contestants start from the same parameters and see the same batches, and
``tests/test_benchmarks.py`` checks that they arrive at the same parameters. Run nothing
else at the same time. When the load exceeds the number of cores, long steps are
interrupted more often than short ones, and the ratios come out too large.

The matrices of small networks are too small for several BLAS threads, which make steps
slower: set OPENBLAS_NUM_THREADS=1 before Python starts.
"""
