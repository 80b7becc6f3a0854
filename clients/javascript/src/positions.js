/** Places in a channel's log: a position (`seq` and `epoch`), or a time. */

/** @import { Position } from "../arqonbus.d.ts" */

/** @typedef {{ seq: number, epoch: string | null }} Place a position; `epoch` is null as long as the log is unknown */
/** @typedef {{ seq: number, epoch?: string | null }} LogRow what the server says about a log */

/** As `since`: behind the mark that the server remembers. */
export const MARK = "mark";

/**
 * @param {unknown} value
 * @returns {value is Position}
 */
export const isPosition = (value) =>
  typeof value === "object" && value !== null && "seq" in value && typeof value.seq === "number";

/**
 * The place at which a log stands according to the server, or the place `seq` of that log.
 * @param {LogRow} row
 * @param {number} [seq]
 * @returns {Place}
 */
export const placeIn = (row, seq = row.seq) => ({ seq, epoch: row.epoch || null });

/**
 * Whether two places belong to different logs, as far as both logs are known.
 * @param {{ epoch: string | null }} before
 * @param {{ epoch: string | null }} after
 */
export const isAnotherLog = (before, after) => Boolean(before.epoch && after.epoch && before.epoch !== after.epoch);

const ISO_TIME = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)\s?(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

/**
 * An ISO time as the protocol writes it, or null. A time without a zone is UTC, although JavaScript reads it as local.
 * @param {unknown} text
 * @returns {string | null}
 */
export function isoTime(text) {
  const [whole, day, clock = "00:00:00", zone = "Z"] = ISO_TIME.exec(String(text).trim()) ?? [];
  if (!whole) return null;
  const [, sign, hours, minutes = "00"] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone) ?? [];
  const time = `${day}T${clock.replace(",", ".")}${sign ? `${sign}${hours}:${minutes}` : "Z"}`;
  return Number.isNaN(Date.parse(time)) ? null : time;
}

/**
 * A `since` that is a time, as the protocol writes it. Throws RangeError if it is not a time.
 * @param {unknown} since
 * @returns {string}
 */
export function sinceTime(since) {
  const time = since instanceof Date ? (Number.isNaN(since.getTime()) ? null : since.toISOString()) : isoTime(since);
  if (time === null) throw new RangeError(`${JSON.stringify(since)} is not an ISO time.`);
  return time;
}
