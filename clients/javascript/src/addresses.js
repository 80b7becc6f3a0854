/** Addresses: `room:channel`, where `*` stands for all channels of a room or for all rooms. */

/** The room whose channels are the clients' inboxes. */
export const INBOX_ROOM = "pm";
/** Stands for every channel, or every room. */
export const ALL = "*";

/**
 * Split `room:channel` into a pair. A room alone is the whole room, `room:*`. Throws TypeError for anything else.
 * @param {string} address
 * @returns {[room: string, channel: string]}
 */
export function splitAddress(address) {
  const [room, channel] = [...String(address ?? "").split(/:(.*)/s), ""];
  if (!room || channel.includes(":")) {
    const text = `${JSON.stringify(address)} is not an address.`;
    throw new TypeError(`${text} An address looks like room:channel, for example science:explore.`);
  }
  return [room, channel || ALL];
}

/**
 * Whether clients join this address. The messages of an inbox and of a whole room arrive without a membership.
 * @param {string} address
 */
export function isJoinable(address) {
  const [room, channel] = splitAddress(address);
  return room !== INBOX_ROOM && room !== ALL && channel !== ALL;
}
