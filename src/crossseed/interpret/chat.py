"""Language models that are asked something: behind an OpenAI-compatible endpoint, or a local one of transformers.

An endpoint's address and key come from the environment (`URL`, `KEY`) and are written nowhere: no message repeats them,
nor what the endpoint says beside its status, and redirects, which would carry the key elsewhere, are not followed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from crossseed.errors import UserError

URL, KEY = "CROSSSEED_SCORER_URL", "CROSSSEED_SCORER_KEY"
TIMEOUT_SECONDS = 120.0
# Tries of one question, and seconds before the second; twice as many before each later one.
TRIES, FIRST_WAIT_SECONDS = 5, 1.0
# Statuses after which another try may do better.
BUSY = {408, 409, 425, 429, 500, 502, 503, 504}
# Questions that an endpoint is asked at a time, and tokens of an answer, at most.
AT_A_TIME = 8
ANSWER_TOKENS = 256
# Answers that a killed job loses, at most.
KEPT_AT_A_TIME = 32


class NotReached(Exception):
    """A scorer that gives no answer; the message says why, without its address."""


class Scorer(Protocol):
    """A language model."""

    def ask(self, prompt: str) -> str:
        """Its answer, always the same where it can be.

        Raises:
            NotReached: there is none, after several tries.
        """

    def ask_all(self, prompts: Sequence[str]) -> list[str]:
        """Its answers, in order."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


class Endpoint:
    """A model behind ``{address}/chat/completions``.

    Args:
        address: e.g. ``https://host/v1``. key: sent as a bearer token; empty for none. model: its name there.
        wait: what is done for some seconds between tries.

    Raises:
        UserError: the address is none of http.
    """

    def __init__(
        self, address: str, key: str, model: str, wait: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(
                f"{URL} is no address of http; set it to that of the endpoint up to /v1, e.g. http://localhost:8000/v1"
            )
        self.model, self._wait = model, wait
        self._url = address.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, prompt: str) -> str:
        """See `Scorer`."""
        said = ""
        for number in range(TRIES):
            if number:
                self._wait(FIRST_WAIT_SECONDS * 2 ** (number - 1))
            try:
                return self._once(prompt)
            except urllib.error.HTTPError as error:
                error.close()
                said = f"HTTP status {error.code}"
                if error.code not in BUSY:
                    raise NotReached(said) from None
            except TimeoutError:
                said = f"no answer within {TIMEOUT_SECONDS:g} seconds"
            except urllib.error.URLError as error:
                # Of the operating system's reason the kind alone: its text may name the address.
                reason = error.reason
                said = type(reason).__name__ if isinstance(reason, OSError) else "no connection"
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
            except (ValueError, LookupError, TypeError):
                said = "an answer that is not of the protocol"
        raise NotReached(f"{said}, {TRIES} times")

    def _once(self, prompt: str) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            content = json.load(answer)["choices"][0]["message"]["content"]
        if not isinstance(content, str):
            raise ValueError
        return content

    def ask_all(self, prompts: Sequence[str]) -> list[str]:
        """See `Scorer`."""
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            futures = [pool.submit(self.ask, prompt) for prompt in prompts]
            try:
                return [future.result() for future in futures]
            except NotReached:
                # What was not asked yet would wait for as long.
                for future in futures:
                    future.cancel()
                raise


def endpoint(model: str) -> Endpoint:
    """The endpoint that the environment names.

    Raises:
        UserError: it names none.
    """
    address = os.environ.get(URL, "").strip()
    if not address:
        raise UserError(
            f"stability.interpret.scorer is openai, but the environment has no {URL}; set it to the endpoint's "
            f"address, e.g. http://localhost:8000/v1, and {KEY} to its key, or choose another scorer"
        )
    return Endpoint(address, os.environ.get(KEY, "").strip(), model)


class Local:
    """A causal model of transformers, decoded greedily.

    Args:
        folder: holds model and tokenizer. device: ``cpu`` or ``cuda``.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, folder: str, device: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.folder = folder
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, dtype="auto"
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"stability.interpret.model: {folder} holds no causal language model of transformers with its "
                f"tokenizer ({str(error).splitlines()[0]})"
            ) from error
        self._model.eval()
        torch.nn.Module.to(self._model, device)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def ask(self, prompt: str) -> str:
        """See `Scorer`.

        Raises:
            UserError: the prompt is longer than the model's context.
        """
        import torch

        if self._tokenizer.chat_template:
            prompt = str(
                self._tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
            read = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        else:
            read = self._tokenizer(prompt, return_tensors="pt")
        ids = read["input_ids"].to(self._model.device)
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and ids.shape[1] + ANSWER_TOKENS > longest:
            raise UserError(
                f"{self.folder}: a question of {ids.shape[1]} tokens and an answer of {ANSWER_TOKENS} do not fit into "
                f"the {longest} of its context; lower stability.interpret.context or train_examples, or choose a "
                "model of a longer context"
            )
        # What transformers mixes in is typed for another class of models.
        model: Any = self._model
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=ANSWER_TOKENS,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        return str(self._tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))

    def ask_all(self, prompts: Sequence[str]) -> list[str]:
        """See `Scorer`."""
        return [self.ask(prompt) for prompt in prompts]


class Remembered:
    """A scorer whose answers are kept beside the output, so that a killed job asks nothing twice.

    Args:
        scorer: who is asked. path: a JSON a line, of question and answer. identity: what must agree for answers to be used.
    """

    def __init__(self, scorer: Scorer, path: Path, identity: str) -> None:
        self.scorer, self.path = scorer, path
        self._identity = identity
        self._known: dict[str, str] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            # Of a killed job the last line may be cut off.
            try:
                key, answer = json.loads(line)
            except (ValueError, TypeError):
                continue
            self._known[str(key)] = str(answer)

    def _key(self, prompt: str) -> str:
        text = f"{self._identity}\n{prompt}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def ask(self, prompt: str) -> str:
        """See `Scorer`."""
        return self.ask_all([prompt])[0]

    def ask_all(self, prompts: Sequence[str]) -> list[str]:
        """See `Scorer`."""
        new = [p for p in dict.fromkeys(prompts) if self._key(p) not in self._known]
        for start in range(0, len(new), KEPT_AT_A_TIME):
            part = new[start : start + KEPT_AT_A_TIME]
            answers = self.scorer.ask_all(part)
            with open(self.path, "a", encoding="utf-8") as handle:
                for prompt, answer in zip(part, answers, strict=True):
                    self._known[self._key(prompt)] = answer
                    # First the line break: a line that was cut off stays alone.
                    handle.write("\n" + json.dumps([self._key(prompt), answer]))
        return [self._known[self._key(prompt)] for prompt in prompts]

    def forget(self) -> None:
        """Deletes what was kept."""
        self.path.unlink(missing_ok=True)
