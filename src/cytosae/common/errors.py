"""The exceptions a user can meet: each message is one sentence that names the file or value and the mend."""

from __future__ import annotations


class CytosaeError(Exception):
    """Base of all errors that cytosae raises on purpose; the command line prints the message and exits with 1."""

    exit_code = 1


class InputError(CytosaeError):
    """A file, table or value given by the user cannot be used as it is."""


class UsageError(InputError):
    """The call itself is wrong (an option, a name); the command line exits with 2."""

    exit_code = 2


class ArtifactError(CytosaeError):
    """An artifact on disk is missing, foreign, too new, incomplete or damaged."""


class NewerArtifactError(ArtifactError):
    """An artifact was written by a newer version: it is whole, and nothing may take its place without a word."""


class WeightsError(CytosaeError):
    """Weights are missing, do not fit the model, or are unsafe to read."""


class TrainingError(CytosaeError):
    """Training cannot go on (divergence, no usable tokens)."""


class ConflictError(CytosaeError):
    """What is to be changed was changed meanwhile by somebody else, who must not be overwritten."""


class DownloadError(CytosaeError):
    """A file could not be fetched, or is not the one that was meant."""
