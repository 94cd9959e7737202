/**
 * The size of the picture: wheel, pinch, keys and buttons; where it is larger than its frame a drag moves
 * it, else a swipe goes to the neighbor. Nothing is trapped: the wheel scrolls a page that has more below,
 * and the page's own zoom works everywhere but on the picture.
 */

const LARGEST = 40;
const SMALLEST = 0.25;
const SWIPE = 60; // px to the side

const distance = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y);
const scrolls = () => document.documentElement.scrollHeight > innerHeight + 1;

export class Zoom {
  #factor = 1;
  #shift = { x: 0, y: 0 };
  #fingers = new Map();
  #start = null;

  /** @param onSwipe called with −1 for the one before, 1 for the one after */
  constructor(frame, onSwipe) {
    this.frame = frame;
    this.onSwipe = onSwipe;
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      frame.addEventListener(name, (event) => this.#up(event));
    }
  }

  get #picture() {
    return this.frame.querySelector("img");
  }

  /** As large as the frame allows. */
  fit() {
    this.#factor = 1;
    this.#shift = { x: 0, y: 0 };
    this.#draw();
  }

  /** Larger or smaller. */
  by(factor) {
    if (!this.#picture) return;
    this.#factor = Math.min(LARGEST, Math.max(SMALLEST, this.#factor * factor));
    if (this.#factor <= 1) this.#shift = { x: 0, y: 0 };
    this.#draw();
  }

  #draw() {
    const { x, y } = this.#shift;
    this.frame.classList.toggle("zoomed", this.#factor > 1);
    const picture = this.#picture;
    if (picture) picture.style.transform = `translate(${x}px, ${y}px) scale(${this.#factor})`;
  }

  #wheel(event) {
    if (!this.#picture || (scrolls() && !event.ctrlKey)) return; // a pinch of a touchpad has ctrlKey
    event.preventDefault();
    this.by(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)));
  }

  #down(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    this.#fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const alone = this.#fingers.size === 1;
    this.#start = alone ? { x: event.clientX, y: event.clientY, at: performance.now() } : null;
    if (this.#factor > 1) this.frame.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const apart = this.#fingers.size === 2 ? distance([...this.#fingers.values()]) : 0;
    this.#fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (apart) this.by(distance([...this.#fingers.values()]) / apart);
    else if (this.#factor > 1) {
      this.#shift.x += event.clientX - before.x;
      this.#shift.y += event.clientY - before.y;
      this.#draw();
    }
  }

  #up(event) {
    const start = this.#start;
    this.#fingers.delete(event.pointerId);
    this.#start = null;
    if (!start || event.type === "pointercancel" || event.pointerType === "mouse") return;
    const [across, along] = [event.clientX - start.x, event.clientY - start.y];
    const quick = performance.now() - start.at < 700;
    if (this.#factor <= 1 && quick && Math.abs(across) > SWIPE && Math.abs(across) > 2 * Math.abs(along)) {
      this.onSwipe(across > 0 ? -1 : 1);
    }
  }
}
