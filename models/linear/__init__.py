"""Linear and mixed-integer programs as they are."""

from models.contract import Kind

KIND = Kind(name="program", package=__name__, summary="Any linear or mixed-integer program: columns, rows, entries.")
