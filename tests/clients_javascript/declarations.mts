// Never run: tsc compares what arqonbus.d.ts declares with what the modules have.

import * as modules from "../../clients/javascript/src/index.js";
import type * as declared from "../../clients/javascript/arqonbus.js";

// Applications do not construct these, so only their instances are compared.
modules satisfies Omit<
    typeof declared,
    "Bus" | "Job" | "JobWorker" | "OutStream" | "Responder" | "Steer" | "RoomSubscription" | "Subscription"
>;
export const bus = (made: modules.Bus): declared.Bus => made;
export const job = (made: modules.Job): declared.Job => made;
export const worker = (made: modules.JobWorker): declared.JobWorker => made;
export const responder = (made: modules.Responder): declared.Responder => made;
export const stream = (made: modules.OutStream): declared.OutStream => made;
export const steer = (made: modules.Steer): declared.Steer => made;
export const room = (made: modules.RoomSubscription): declared.RoomSubscription => made;
export const subscription = (made: modules.Subscription): declared.Subscription => made;

// @ts-expect-error the comparison would find a method that is missing
export const unlike = (made: Omit<modules.Bus, "publish">): declared.Bus => made;
