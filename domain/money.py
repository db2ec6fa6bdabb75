"""Amounts of money: exact inside, numbers on the wire."""

from decimal import Decimal, InvalidOperation

from domain.errors import Code, refuse_field

MAX_DIGITS = 15  # significant ones: a JSON number keeps them all
LARGEST = Decimal(10) ** 12
SMALLEST_PLACE = -6  # decimal places


def parse_amount(value: object, field: str = "amount") -> Decimal:
    """The amount that a JSON number or a decimal text says, exactly; raises AppError.

    At most 15 significant digits and 6 decimal places, at most 10^12 in size.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise refuse_field(Code.INVALID_TYPE, field, "must be a number")
    try:
        amount = Decimal(str(value)) if len(str(value)) <= 40 else Decimal("NaN")
    except InvalidOperation:
        raise refuse_field(Code.INVALID_TYPE, field, "must be a number") from None
    if not amount.is_finite() or abs(amount) > LARGEST:
        raise refuse_field(Code.INVALID_VALUE, field, f"must be at most {LARGEST} in size")
    amount = amount.normalize() + 0  # no exponent that only shifts zeros, no negative zero
    _, digits, exponent = amount.as_tuple()
    if len(digits) > MAX_DIGITS or (isinstance(exponent, int) and exponent < SMALLEST_PLACE):
        raise refuse_field(
            Code.INVALID_VALUE, field, "must have at most 15 digits, 6 of them decimal places"
        )
    return amount


def number(amount: Decimal) -> int | float:
    """The JSON number of an amount: the shortest that reads back as the same amount."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
