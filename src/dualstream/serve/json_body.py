"""JSON bodies of requests, read within limits."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from dualstream.serve.refusal import RefusedError

MOST_BYTES = 2**16

Document = TypeVar("Document", bound=BaseModel)


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return arguments of a route that tell what body it takes."""
    schema = {"application/json": {"schema": model.model_json_schema()}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": schema}}}


async def read_json(request: Request, model: type[Document]) -> Document:
    """Return the JSON body of a request, of at most `MOST_BYTES`.

    Raises:
        RefusedError: it is longer, no JSON, or another document.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise RefusedError("too-large", f"The JSON has more than {MOST_BYTES} bytes.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        told = json.loads(error.json(include_input=False, include_url=False, include_context=False))
        text = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in told
        )
        raise RefusedError("invalid", text) from error
