"""What several examples share.

    command_line       the options of the scripts, and the data they request
    data               the data sets, and minibatches
    networks           perceptrons: building, training and testing them
    layers             what each module of a network computed, and its gradient
    mean_field         the theory of wide random networks
    ghost_batch_norm   batch norm over groups of a batch
    parallel           runs for several seeds and settings at the same time
    measures, tables   how deviations are measured, and how numbers are printed
    json_file          measured numbers for other programs
    claims             what an experiment must show
    plotting           the look of all plots
    drawings           the example of the drawings: four samples, one bias

What belongs to one experiment only is in ``parts/<experiment>/``. Scripts import both,
and never each other.
"""
