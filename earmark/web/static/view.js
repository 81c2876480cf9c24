/** Which part of a recording is on the screen, and where a time stands there. */
export class View extends EventTarget {
  constructor() {
    super();
    this.duration = 1;
    this.start = 0;
    this.end = 1;
    this.width = 1;
  }

  get span() {
    return this.end - this.start;
  }

  /** Shortest span that can be shown. */
  get shortest() {
    return Math.min(this.duration, 0.25);
  }

  reset(duration) {
    this.duration = Math.max(duration, 0.001);
    this.show(0, this.duration);
  }

  /** Shows the stretch, moved and widened into what there is. */
  show(start, end) {
    const span = Math.min(Math.max(end - start, this.shortest), this.duration);
    const middle = (start + end) / 2;
    this.start = Math.min(Math.max(0, middle - span / 2), this.duration - span);
    this.end = this.start + span;
    this.dispatchEvent(new Event("change"));
  }

  /** A factor below 1 comes nearer; `time` stays where it is. */
  zoom(factor, time = (this.start + this.end) / 2) {
    const span = Math.min(Math.max(this.span * factor, this.shortest), this.duration);
    const start = time - ((time - this.start) / this.span) * span;
    this.show(start, start + span);
  }

  /** Moves by a share of what is shown. */
  scroll(share) {
    this.moveTo(this.start + share * this.span);
  }

  moveTo(start) {
    this.show(start, start + this.span);
  }

  /** Scrolls, and zooms out where it must, until the stretch is on the screen. */
  reveal(start, end) {
    const margin = 0.05 * this.span;
    if (start >= this.start + margin && end <= this.end - margin) return;
    if (end - start > 0.9 * this.span) this.show(start - 0.1 * (end - start), end + 0.1 * (end - start));
    else this.moveTo((start + end) / 2 - this.span / 2);
  }

  pixel(time) {
    return ((time - this.start) / this.span) * this.width;
  }

  time(pixel) {
    return Math.min(this.duration, Math.max(0, this.start + (pixel / this.width) * this.span));
  }
}
