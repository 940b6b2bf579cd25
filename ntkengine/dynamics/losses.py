"""The losses of `ntkengine.losses`, by the name that they had here."""

from ntkengine.losses import AnyLoss, CrossEntropy, HalfMean, HalfSum, Logistic, Loss, Mean, Squared

__all__ = ["AnyLoss", "CrossEntropy", "HalfMean", "HalfSum", "Logistic", "Loss", "Mean", "Squared"]
