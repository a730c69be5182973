"""A visitor of the dashboard without a browser: a session over Streamlit's websocket.

It says over the wire what a tab says: the address, the states of the controls that were set, and
which large elements it keeps. It takes in all that a run sends, and draws nothing. So one machine
has room for as many visitors as the server is meant to serve.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.NumberInput_pb2 import NumberInput
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

Place = tuple[int, ...]  # of an element in the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one run sent.

    Attributes:
        took_s: Seconds from the message that asks for the run to the end of the run.
        elements: What the page consists of.
    """

    took_s: float
    elements: Mapping[Place, Element]

    def all(self, kind: str) -> list[Any]:
        """The elements of a kind, from the top: `heading`, `text`, `exception`, `number_input`."""
        return [
            getattr(element, kind)
            for _, element in sorted(self.elements.items())
            if element.WhichOneof("type") == kind
        ]


@dataclass(slots=True)
class Visitor:
    """One session. Controls are named by their keys in the address."""

    socket: ClientConnection
    _query: dict[str, str] = field(default_factory=dict)
    _states: dict[str, WidgetState] = field(default_factory=dict)
    _controls: dict[str, Any] = field(default_factory=dict)  # the page's, messages of Streamlit's
    _kept: dict[str, ForwardMsg] = field(default_factory=dict)  # large elements of the last run
    _page: str = ""  # hash of the page's script

    async def open(self, page: str = "", **query: str) -> Page:
        """Open a page by its name, with an address; the first page is Explore."""
        self._query = query
        return await self._run("" if page == "explore" else page)

    async def _run(self, opened: str = "") -> Page:
        """Ask for a run and take in what it sends."""
        asked = BackMsg()
        state = asked.rerun_script
        state.page_name = opened
        state.query_string = urlencode(self._query)
        state.page_script_hash = self._page
        state.widget_states.widgets.extend(self._states.values())
        state.cached_message_hashes.extend(self._kept)
        start = time.perf_counter()
        await self.socket.send(asked.SerializeToString())
        elements: dict[Place, Element] = {}
        kept: dict[str, ForwardMsg] = {}
        begun = False
        while True:
            message = ForwardMsg.FromString(await self.socket.recv(decode=False))
            place = tuple(message.metadata.delta_path)
            if message.WhichOneof("type") == "ref_hash":
                message = self._kept[message.ref_hash]
                kept[message.hash] = message
            elif message.metadata.cacheable:
                kept[message.hash] = message
            match message.WhichOneof("type"):
                case "new_session":
                    begun = True
                case "navigation":
                    self._page = message.navigation.page_script_hash
                case "delta" if message.delta.WhichOneof("type") == "new_element":
                    elements[place] = message.delta.new_element
                case "script_finished" if begun:
                    break
        self._kept = kept
        self._controls = {
            key: control
            for element in elements.values()
            if (kind := element.WhichOneof("type"))
            and (key := getattr(control := getattr(element, kind), "query_param_key", ""))
        }
        took_s = time.perf_counter() - start
        return Page(took_s=took_s, elements=elements)

    async def set(self, key: str, value: str) -> Page:
        """Write into a field of numbers, or take an option of a list or of a row of buttons."""
        control = self._controls[key]
        state = WidgetState(id=control.id)
        if isinstance(control, NumberInput):
            if control.data_type == NumberInput.INT:
                state.int_value = int(value)
            else:
                state.double_value = float(value)
        elif hasattr(control, "click_mode"):
            state.string_array_value.data.append(value)
        else:
            state.string_value = value
        self._states[control.id] = state
        self._query[key] = value
        return await self._run()


@asynccontextmanager
async def visiting(url: str) -> AsyncIterator[Visitor]:
    """A session of its own that has not opened a page; it leaves as a closed tab does."""
    stream = f"{url.replace('http', 'ws', 1)}/_stcore/stream"
    async with connect(
        stream, subprotocols=[Subprotocol("streamlit")], max_size=None, origin=Origin(url)
    ) as socket:
        yield Visitor(socket)
