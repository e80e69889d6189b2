// Waits until the session's process is ready, then opens the app in the same place.
const message = document.getElementById("message");
async function look() {
  try {
    const answer = await fetch("/f3d/ready", { cache: "no-store" });
    const state = await answer.json();
    if (state.ready) return location.replace("/");
    if (state.error) { message.textContent = state.error; document.querySelector(".bar").remove(); return; }
  } catch {
    message.textContent = "The server does not answer; trying again…";
  }
  setTimeout(look, 400);
}
look();
