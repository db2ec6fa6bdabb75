"""Amounts of money: exact inside, numbers on the wire."""

from decimal import Decimal

from domain.errors import Code, refuse_field

MAX_DIGITS = 15  # a JSON number keeps them all
BEYOND = 10**MAX_DIGITS
NOISE = Decimal("1e-15")  # of a double's arithmetic: 0.1 + 0.2 means 0.3
SMALLEST_PLACE = -6  # decimal places


def parse_amount(value: object, field: str = "amount") -> Decimal:
    """The amount that a JSON number says, but for the noise of its arithmetic; raises AppError.

    At most 15 digits, at most 6 of them decimal places.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse_field(Code.INVALID_TYPE, field, "must be a number")
    if -BEYOND < value < BEYOND:  # so not NaN either
        exact = Decimal(str(value))
        # Normal: no exponent that only shifts zeros, no negative zero.
        amount = Decimal(f"{value:.{MAX_DIGITS}g}").normalize() + 0
        _, _, exponent = amount.as_tuple()
        if abs(amount - exact) <= abs(exact) * NOISE and int(exponent) >= SMALLEST_PLACE:
            return amount
    raise refuse_field(
        Code.INVALID_VALUE, field, "must have at most 15 digits, 6 of them decimal places"
    )


def number(amount: Decimal) -> int | float:
    """The JSON number of an amount: the shortest that reads back as the same amount."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
