"""What follows the service: nothing that happens while a question is answered is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

import api.dashboard

STATIC = Path(api.dashboard.__file__).parent / "static"
_STUBS = """
    window.streams = [];
    window.asked = [];
    window.EventSource = class extends EventTarget {
        static OPEN = 1; static CLOSED = 2;
        constructor() { super(); this.readyState = 1; window.streams.push(this); }
        close() { this.readyState = 2; }
    };
    window.tell = () => window.streams[0].dispatchEvent(new MessageEvent("phase", { data: '{"job_id": "job_a"}' }));
"""
_FOLLOW = """async () => {
    const phases = [];
    window.fetch = (path) => new Promise((resolve) => window.asked.push(
        (phase) => resolve(new Response(JSON.stringify({ id: "job_a", phase }), {
            headers: { "Content-Type": "application/json" } }))));
    const { Follower } = await import("/static/js/follow.js");
    window.phases = phases;
    new Follower().follow("job_a", (job) => phases.push(job.phase));
}"""


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.add_init_script(_STUBS)
    page.route(
        "http://page.example/static/**",
        lambda route: route.fulfill(path=STATIC / route.request.url.partition("/static/")[2]),
    )
    page.route(
        "http://page.example/",
        lambda route: route.fulfill(
            body="<p id=live></p><div data-live='/part' data-kinds='phase' data-every='3600'></div>",
            content_type="text/html",
        ),
    )
    page.goto("http://page.example/")
    yield page
    page.close()


def test_the_end_of_a_job_that_comes_while_it_is_asked_for_is_seen(page):
    page.evaluate(_FOLLOW)
    page.wait_for_function("asked.length === 1")
    page.evaluate("asked[0]('EXECUTING')")
    page.wait_for_function("phases.length === 1")
    page.evaluate("tell()")
    page.wait_for_function("asked.length === 2", timeout=5000)
    page.evaluate("tell(); asked[1]('EXECUTING')")  # it ends while that answer is on its way
    page.wait_for_function("asked.length === 3", timeout=5000)
    page.evaluate("asked[2]('COMPLETED')")
    page.wait_for_function("phases.join() === 'EXECUTING,EXECUTING,COMPLETED'")
    assert page.evaluate("streams[0].readyState") == 2


def test_a_part_is_fetched_again_after_what_came_meanwhile(page):
    page.evaluate("window.htmx = { ajax: () => new Promise((resolve) => asked.push(resolve)) }")
    page.evaluate("import('/static/js/live_part.js')")
    page.wait_for_function("streams.length === 1")
    page.evaluate("tell()")
    page.wait_for_function("asked.length === 1", timeout=5000)
    page.evaluate("tell(); tell(); asked[0]()")
    page.wait_for_function("asked.length === 2", timeout=5000)
    page.evaluate("asked[1]()")
    page.wait_for_timeout(1500)
    assert page.evaluate("asked.length") == 2
