"""A calculator: three tools with structured answers. Run it with `python -m mcpd.demo.calculator`."""

from __future__ import annotations

import math

from mcpd.demo.call import JSON, Call, ToolError
from mcpd.demo.stdio_server import Server

EXACT = 2**53
"""Up to here every whole number is a double, so it can be written without a fraction."""

NUMBERS: JSON = {
    "a": {"type": "number", "description": "The first number"},
    "b": {"type": "number", "description": "The second number"},
}
RESULT: JSON = {"result": {"type": "number", "description": "What comes out"}}

server = Server(
    "calculator",
    title="Calculator",
    instructions="Calculates with two numbers at a time. Prefer it to calculating in your head.",
)


def answer(value: float) -> JSON:
    """The number as the tools return it. Raises: ToolError when it is too large for a double."""
    if not math.isfinite(value):
        raise ToolError("the result is too large; the largest number here is about 1.8e308")
    return {"result": int(value) if value == int(value) and abs(value) <= EXACT else value}


@server.tool(
    "add",
    "Adds two numbers and returns their sum. Use a negative number to subtract.",
    title="Add",
    inputs=NUMBERS,
    output=RESULT,
    readOnlyHint=True,
    idempotentHint=True,
    openWorldHint=False,
)
def add(call: Call, a: float, b: float) -> JSON:
    return answer(float(a) + float(b))


@server.tool(
    "multiply",
    "Multiplies two numbers and returns their product.",
    title="Multiply",
    inputs=NUMBERS,
    output=RESULT,
    readOnlyHint=True,
    idempotentHint=True,
    openWorldHint=False,
)
def multiply(call: Call, a: float, b: float) -> JSON:
    return answer(float(a) * float(b))


@server.tool(
    "divide",
    "Divides the first number by the second and returns the quotient. Dividing by zero is refused.",
    title="Divide",
    inputs=NUMBERS,
    output=RESULT,
    readOnlyHint=True,
    idempotentHint=True,
    openWorldHint=False,
)
def divide(call: Call, a: float, b: float) -> JSON:
    if b == 0:
        raise ToolError("cannot divide by zero; choose another b")
    return answer(float(a) / float(b))


if __name__ == "__main__":
    server.run()
