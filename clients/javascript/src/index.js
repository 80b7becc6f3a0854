/**
 * Client of ArqonBus for browsers and node. It is one ES module without dependencies.
 *
 *     import { connect } from "./arqonbus.js";
 *
 *     const bus = await connect("ws://localhost:8765/", { clientId: "me" });
 *     await bus.publish("science:explore", "hello");
 *     for await (const message of bus.subscribe("science:explore")) console.log(message.sender, message.text);
 *
 * The client reconnects by itself and resumes by position: an iterator sees every message once and in order, also
 * across a restart of the server. All times are in milliseconds. Types: arqonbus.d.ts.
 */

export const VERSION = "1.0.0";

export { splitAddress } from "./addresses.js";
export { Bus } from "./bus.js";
export { connect } from "./connect.js";
export {
  AskFailed,
  ArqonBusError,
  BusClosed,
  CLOSE_CODES,
  ClaimLost,
  ClosedByServer,
  ConnectionFailed,
  ConnectionLost,
  IdentityInUse,
  ServerError,
  StreamReset,
  TimedOut,
  comesBack,
} from "./errors.js";
export { Fold, fold } from "./folding.js";
export { RoomSubscription } from "./following.js";
export { JobWorker } from "./job-worker.js";
export { Job } from "./jobs.js";
export { Message } from "./message.js";
export { OutStream, Steer } from "./out-stream.js";
export { Backoff } from "./pacing.js";
export { Responder } from "./responder.js";
export { Subscription } from "./subscription.js";
