// Look every two seconds whether anything is new, and take it over: the page stays where it is.
const look = async () => {
  try {
    const place = location.pathname + location.search;
    const answer = await fetch(`/state${place}`, { cache: "no-store" });
    const { state } = await answer.json();
    if (state && state !== document.body.dataset.state && !document.hidden) {
      const text = await (await fetch(place, { cache: "no-store" })).text();
      const ticked = [...document.querySelectorAll("input[name=run]:checked")].map((one) => one.value);
      const opened = [...document.querySelectorAll("details")].map((one) => one.open);
      const page = new DOMParser().parseFromString(text, "text/html");
      for (const name of ["header", "nav", "main", "footer", "#runs-data"]) {
        const [old, next] = [document.querySelector(name), page.querySelector(name)];
        if (old && next) old.replaceWith(next);
      }
      document.body.dataset.state = page.body.dataset.state;
      document.title = page.title;
      if (document.getElementById("runs-data")) start();
      document.querySelectorAll("input[name=run]").forEach((one) => { one.checked = ticked.includes(one.value); });
      document.querySelectorAll("details").forEach((one, number) => { one.open = opened[number] ?? one.open; });
    }
    document.getElementById("live").textContent = "live";
  } catch (error) {
    document.getElementById("live").textContent = "flowprov ui has ended";
  }
  setTimeout(look, 2000);
};
setTimeout(look, 2000);
