"""What belongs to a single example, in a folder named like its script.

==========  ==========================================================================
plots       ``report``, the closing tables, and ``plot``, the picture
claims      what the experiment must show; makes it part of the gallery
==========  ==========================================================================

The other files of a folder are the models and the theory of its experiment.
"""
