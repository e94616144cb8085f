// Grafana's type of a dashboard, as JSON has it: a member of an enum of strings is its text.
import type { Dashboard } from "@grafana/schema";

type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

export type DashboardJson = Plain<Dashboard>;
