
const countdown = document.getElementById("countdown");
const meter = document.getElementById("left");
const tick = () => {
  const left = Math.max(0, countdown.dataset.ends - Date.now() / 1000);
  meter.value = left;
  countdown.textContent = left > 0
    ? `It ends in ${Math.ceil(left)} s.`
    : countdown.dataset.open === "true"
      ? "It has ended. An open page waits for nothing: the gate renews the token behind it."
      : "It has ended. Reload: the gate renews it first, and nobody is asked to sign in.";
};
tick();
setInterval(tick, 250);

const burst = document.getElementById("burst");
burst.addEventListener("click", async () => {
  const result = document.getElementById("burst-result");
  burst.disabled = true;
  try {
    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const answer = await fetch(location.pathname, { headers: { Accept: "application/json" } });
        return answer.json();
      }),
    );
    const tokens = new Set(answers.map((answer) => answer.claims?.jti));
    const newest = answers.reduce((a, b) => (b.backend.redemptions > a.backend.redemptions ? b : a));
    document.getElementById("redemptions").textContent = newest.backend.redemptions;
    document.getElementById("reuses").textContent = newest.backend.reuses;
    const same = tokens.has(countdown.dataset.id) ? "the one above" : "a new one";
    result.textContent = tokens.has(undefined)
      ? `${answers.length} answers, some without a token: an open page waits for none.`
      : tokens.size === 1
        ? `${answers.length} answers, all with one token: ${same}.`
        : `${answers.length} answers with ${tokens.size} tokens.`;
  } catch {
    result.textContent = "Not all were answered. Reload to sign in again.";
  }
  burst.disabled = false;
});
