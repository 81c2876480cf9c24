/** One pointer, from down to up: a click, or a drag that begins after a few pixels. */

const DRAG_PIXELS = 4;

/**
 * @param {HTMLElement} target that gets the pointer
 * @param {PointerEvent} down
 * @param {{click?: (event: PointerEvent) => void, drag?: (event: PointerEvent) => void,
 *   drop?: (event: PointerEvent) => void, cancel?: () => void}} on
 */
export function follow(target, down, on) {
  if (down.button !== 0) return;
  let dragging = false;
  const done = new AbortController();
  const { signal } = done;
  target.setPointerCapture(down.pointerId);
  const move = (event) => {
    if (event.pointerId !== down.pointerId) return;
    dragging ||= Math.abs(event.clientX - down.clientX) >= DRAG_PIXELS;
    if (dragging) on.drag?.(event);
  };
  const up = (event) => {
    if (event.pointerId !== down.pointerId) return;
    done.abort();
    if (event.type === "pointercancel") on.cancel?.();
    else if (dragging) on.drop?.(event);
    else on.click?.(event);
  };
  const escape = (event) => {
    if (event.key !== "Escape" || !dragging) return;
    event.stopPropagation();
    done.abort();
    on.cancel?.();
  };
  target.addEventListener("pointermove", move, { signal });
  target.addEventListener("pointerup", up, { signal });
  target.addEventListener("pointercancel", up, { signal });
  window.addEventListener("keydown", escape, { signal, capture: true });
}
