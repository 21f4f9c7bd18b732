"""An atlas on disk: written cell by cell, opened whole or left there, read by rows or by columns."""
