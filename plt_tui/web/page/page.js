// The page of one tab: takes the token, asks the server what there is to see, and opens textual-serve's terminal on it.
//
// The token comes in the fragment of the address, which a browser keeps to itself, or is typed; it stays in this tab's own
// storage and goes out in a header or as a subprotocol of the WebSocket, never in an address. What the server says is shown as
// text, never as HTML.
"use strict";

(() => {
  const KEY = "plt-tui.token";
  const PROTOCOL = "plt-tui.tab.v1";
  const at = (id) => document.getElementById(id);

  function takeToken() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    // textual.js would obey what stands in the query, such as an address to call first.
    history.replaceState(null, "", location.pathname);
    if (given) sessionStorage.setItem(KEY, given);
    return sessionStorage.getItem(KEY) || "";
  }

  function ask(why) {
    at("why").textContent = why;
    at("login").hidden = false;
    at("token").value = "";
    at("token").focus();
  }

  function finish(words) {
    document.body.classList.add("-closed");
    at("over-words").textContent = words || "The run is not touched by that.";
    at("over").hidden = false;
    at("again").focus();
  }

  // textual.js opens its WebSocket by address only, and a browser can send no header with one.
  function openSocketsWith(token) {
    const Plain = window.WebSocket;
    window.WebSocket = function (address) {
      const socket = new Plain(address, [PROTOCOL, `bearer.${token}`]);
      socket.addEventListener("open", () => document.querySelector(".xterm-helper-textarea").focus());
      socket.addEventListener("close", (event) => finish(event.reason));
      return socket;
    };
  }

  async function loadTerminal() {
    await Promise.allSettled(["", "bold ", "italic "].map((style) => document.fonts.load(`${style}15px "Roboto Mono"`)));
    const script = document.createElement("script");
    script.src = "terminal/textual.js";
    await new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = () => reject(new Error("textual.js did not come"));
      document.head.append(script);
    });
    const start = window.onload; // it begins when the page has loaded, which was before there was a token
    window.onload = null;
    start();
  }

  async function open(token) {
    let answer, told;
    try {
      answer = await fetch("about", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
      told = await answer.json();
    } catch {
      return finish("plt-tui web does not answer: it has ended, or its terminal was closed.");
    }
    if (answer.status === 401) {
      sessionStorage.removeItem(KEY);
      return ask("This is not the token of the server that is running now.");
    }
    if (!answer.ok) return finish(told.error);
    sessionStorage.setItem(KEY, token);
    at("login").hidden = true;
    document.title = `${told.run} · plt-tui${told.control ? "" : " (watching)"}`;
    // So small on a phone that the view's 60 columns fit; a character is three fifths as wide as high.
    at("terminal").dataset.fontSize = Math.min(15, Math.max(8, Math.floor(innerWidth / 38)));
    at("terminal").dataset.sessionWebsocketUrl = new URL("tab", location.href).href.replace(/^http/, "ws");
    openSocketsWith(token);
    try {
      await loadTerminal();
    } catch (error) {
      finish(`The terminal cannot be drawn in this browser: ${error.message}`);
    }
  }

  at("login").addEventListener("submit", (event) => {
    event.preventDefault();
    open(at("token").value.trim().replace(/^.*#token=/, ""));
  });
  at("again").addEventListener("click", () => location.reload());
  window.addEventListener("hashchange", () => location.hash.includes("token=") && location.reload());

  const token = takeToken();
  if (token) open(token);
  else ask("");
})();
