"""Snakemake's report of a run, clicked through in a browser."""

import html
import json
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.workflow
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

# Opens every result of every category from the menu, and its description; what was seen goes into
# the page itself.
CLICKS = """
<script>
(async () => {
  const wait = () => new Promise(done => setTimeout(done, 60));
  const all = selector => [...document.querySelectorAll("#app " + selector)];
  await wait();
  const seen = {landing: document.querySelector("#app").innerText, results: []};
  seen.pictures = all("figure svg").map(one => one.getBoundingClientRect().width);
  try {
    for (const category of Object.keys(categories)) {
      for (const path of Object.values(categories[category]).flat()) {
        const label = Object.values(results[path].labels)[0];
        app.setView({navbarMode: "menu"});
        await wait();
        all("li a, li, button").filter(one => one.textContent.trim() === category).pop().click();
        await wait();
        const row = all("tr").find(one => one.firstChild.textContent.trim() === label);
        const links = [...row.querySelectorAll("a, button")];
        links[0].click();
        await wait();
        await wait();
        const content = all("img, iframe, embed, object").pop();
        const shown = [content.tagName, content.naturalWidth || content.clientWidth];
        links[links.length - 1].click();
        await wait();
        const said = document.querySelector("#app").innerText;
        seen.results.push({category, path, label, shown, said});
      }
    }
  } catch (error) { seen.error = String(error.stack || error); }
  const found = document.createElement("pre");
  found.id = "seen";
  found.textContent = JSON.stringify(seen);
  document.body.append(found);
})();
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_every_result_is_found_shown_and_described(finished, tmp_path):
    finished.snakemake("--report", str(tmp_path / "report.html"))
    page = tmp_path / "clicked.html"
    page.write_text((tmp_path / "report.html").read_text(encoding="utf-8") + CLICKS)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    options += ["--virtual-time-budget=60000", f"--user-data-dir={tmp_path}"]
    dom = subprocess.run(
        [BROWSER, *options, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert "error" not in seen, seen["error"]
    assert "means of 2 seeds" in seen["landing"] and "Pareto front" in seen["landing"]
    assert len(seen["pictures"]) == 1 and seen["pictures"][0] > 300  # the rules
    figures = sorted(path.stem for path in (finished / "results/figures/digits").glob("*.svg"))
    found = {category: [] for category in ("digits", "thesis")}
    for result in seen["results"]:
        found[result["category"]].append(result["label"])
        kind, width = result["shown"]
        assert width > 300, result["path"]
        assert kind == ("IMG" if result["path"].endswith(".svg") else kind)
        caption = re.search(r"DESCRIPTION\s+(.*?)\s+SIZE", result["said"], re.DOTALL)[1]
        assert len(caption) > 60, result["path"]
    assert sorted(found["digits"]) == figures and len(figures) > 8
    assert sorted(found["thesis"]) == ["headline table and rules", "thesis"]
