/** The least sure events first, over all recordings: one question after another. */
import { getJson } from "./api.js";

const AT_ONCE = 30;
/** More the server does not tell at once. */
const MOST = 500;

/** Ids of events are of one recording each. */
const keyOf = (item) => `${item.recording} ${item.event.id}`;

export class Queue {
  /**
   * @param {import("./desk.js").Desk} desk
   * @param {{show: (item: any) => Promise<boolean>, failed: (error: Error) => void,
   *   say: (words: string) => void, ended: (why?: string) => Promise<void>,
   *   redraw: () => void}} actions `ended` hears why no more is asked, if it isn't for want of events
   */
  constructor(desk, actions) {
    this._desk = desk;
    this._actions = actions;
    this.running = false;
    this._items = [];
    this._place = -1;
    this._skipped = new Set();
    this._going = false;
  }

  get number() {
    return this._place + 1;
  }

  get length() {
    return this._items.length;
  }

  /** Whether the event is the one that the queue asks about now. */
  asks(event) {
    const item = this._items[this._place];
    const here = item?.recording === this._desk.recording?.id && item?.event.id === event?.id;
    return Boolean(this.running && event && here);
  }

  start() {
    this._skipped.clear();
    this._items = [];
    this._place = -1;
    this.running = true;
    return this.next();
  }

  stop() {
    this.running = false;
    this._items = [];
    this._place = -1;
    this._actions.redraw();
  }

  /** The next question; from a standstill the first one. */
  async next() {
    if (this._going) return;
    if (!this.running) return this.start();
    this._going = true;
    try {
      for (;;) {
        const passed = this._items[this._place];
        if (passed) this._skipped.add(keyOf(passed));
        this._place++;
        if (this._place >= this._items.length && !(await this._fetch())) {
          const all = this._skipped.size < MOST;
          this.stop();
          return await this._actions.ended(
            all ? undefined : `${MOST} questions were passed over: begin again`,
          );
        }
        if (await this._actions.show(this._items[this._place])) break;
      }
      const { event } = this._items[this._place];
      this._actions.say(`Is this ${event.label}? Y for yes, N for no, a number for another class`);
      this._actions.redraw();
    } catch (error) {
      this.stop();
      this._actions.failed(error);
    } finally {
      this._going = false;
    }
  }

  /** More questions, of those that were not passed over. @returns {Promise<boolean>} */
  async _fetch() {
    await this._desk.keeper?.settled();
    const count = Math.min(MOST, AT_ONCE + this._skipped.size);
    const items = await getJson("/queue", { model: this._desk.model.id, count });
    const fresh = items.filter((item) => !this._skipped.has(keyOf(item)));
    this._items = fresh.slice(0, AT_ONCE);
    // What was decided meanwhile is not among them any more.
    this._skipped = new Set(items.map(keyOf).filter((key) => this._skipped.has(key)));
    this._place = 0;
    return this._items.length > 0;
  }
}
