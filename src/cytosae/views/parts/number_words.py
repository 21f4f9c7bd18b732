"""Numbers as they are printed, in sentences and tables alike; what cannot be said is an en dash."""

from __future__ import annotations

import math

THIN = "\u202f"
"""Narrow no-break space: between thousands, and between a number and its unit."""


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, powers of ten as the eye reads them: 0.0123, 1.2 × 10⁻⁵."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 < exponent < 5:
        places = max(digits - 1 - exponent, 0)
        text = f"{value:,.{places}f}".replace(",", THIN)
    else:
        power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"{value / 10**exponent:.{digits - 1}f}{THIN}×{THIN}10{power}"
    return text.replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A number with its sign: +0.0123, −4.50."""
    text = number(value, digits)
    return text if value is None or not math.isfinite(value) or value <= 0 else f"+{text}"


def fixed(value: float | None, places: int = 4) -> str:
    """A signed number with fixed places, so that a column can be added up by eye."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.{places}f}".replace("-", "−") if round(value, places) else f"{0:.{places}f}"


def two(value: float | None) -> str:
    """Two places: 0.84."""
    return "–" if value is None or not math.isfinite(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share as a percentage: 12.3 %."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = 100 * value
    if 0 < abs(shown) < 0.01:
        return f"<{THIN}0.01{THIN}%" if shown > 0 else f">{THIN}−0.01{THIN}%"
    places = 0 if abs(shown) >= 99.95 or shown == 0 else 1 if abs(shown) >= 1 else 2
    return f"{shown:,.{places}f}{THIN}%".replace(",", THIN).replace("-", "−")


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign: +3.1 points."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = round(100 * value, 1) + 0.0
    return f"{shown:+.1f}".replace("-", "−") + f"{THIN}points" if shown else f"0{THIN}points"


def whole(value: float | None) -> str:
    """A count with thin spaces between thousands."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.0f}".replace(",", THIN)


def p_value(value: float | None) -> str:
    """A probability of chance: 0.034, < 0.001."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"<{THIN}0.001" if value < 0.001 else f"{value:.3f}"


def tiny(value: float) -> str:
    """A residual: one digit and its power of ten."""
    return "less than 10⁻¹²" if value < 1e-12 else number(value, 1)


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and seconds."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h {minutes}{THIN}min" if hours else f"{minutes}{THIN}min {rest}{THIN}s"


def count(n: int, thing: str) -> str:
    """A number of things: 1 patient, 12 patients."""
    return f"{whole(n)} {thing}{'s' if n != 1 else ''}"


def listed(words: list[str]) -> str:
    """Words in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
