// The gateway's answers. Generated from docs/openapi.json: `cargo xtask verify --only types --fix` writes it anew.
export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description The adjustment of a period. */
        AdjustedPeriodJson: {
            /**
             * Format: int64
             * @description Added to the period's count; negative if subtracted.
             */
            adjusted: number;
            /**
             * Format: date-time
             * @description Exclusive.
             */
            end: string;
            /**
             * Format: date-time
             * @description Inclusive.
             */
            start: string;
        };
        /** @description The verdict. */
        AdmissionJson: {
            /**
             * Format: date-time
             * @description When the run was allowed and reserved; null if it was not. Push it with the execution as
             *     `admitted_at`, and the reservation ends as soon as the execution is counted.
             */
            admitted_at: string | null;
            /** @description Whether the run may start. */
            allowed: boolean;
            /**
             * Format: date-time
             * @description When the usage behind the verdict was read; null if there is none yet.
             */
            as_of: string | null;
            /** @description The same for a person, in the tenant's language and time zone. */
            hint: string | null;
            id: components["schemas"]["RunId"] | null;
            /**
             * Format: uint64
             * @description Time since the instant up to which all sources are counted; null until each has been swept once.
             */
            lag_seconds: number | null;
            /**
             * Format: uint64
             * @description Counted executions allowed in the period; null for no limit.
             */
            limit: number | null;
            /** @description Why, for a person, in the tenant's language and time zone. */
            message: string;
            outage: components["schemas"]["OutageJson"] | null;
            /** @description Whether a soft limit is exceeded. */
            over_limit: boolean;
            /**
             * @description Why, for programs: `within_limit`, `no_limit`, `over_soft_limit`, `grace`, `not_counted`, `error_workflow`,
             *     `shadow`, `not_attributed`; refused: `limit_reached`, `limit_unsettled` (some runs may be counted
             *     twice for a moment: try again at `retry_at`), `overage_reached`, `tenant_minute_cap`, `tenant_day_cap`,
             *     `tenant_concurrent_cap`, `workflow_minute_cap`, `workflow_day_cap`,
             *     `workflow_concurrent_cap`, `workflow_share_used`, `loop_detected`, `unknown_tenant`; `metering_stale` for both.
             */
            reason: components["schemas"]["AdmissionReason"];
            /**
             * Format: uint64
             * @description `limit` - `used`; null without a limit or if `used` is not known.
             */
            remaining: number | null;
            /**
             * Format: uint64
             * @description Runs that were allowed here and are not counted yet, this one included.
             */
            reserved: number;
            /**
             * Format: date-time
             * @description When the period ends and the limit resets; null for an unknown tenant.
             */
            resets_at: string | null;
            /**
             * Format: date-time
             * @description When a refusal may end; null if the run is allowed or that is not known.
             */
            retry_at: string | null;
            shadow: components["schemas"]["ShadowJson"] | null;
            tenant: components["schemas"]["TenantId"] | null;
            /**
             * Format: uint64
             * @description Executions that count against the limit, this run included if it was allowed; null if nothing is known
             *     of the period yet.
             */
            used: number | null;
        };
        /**
         * @description Why the limit check decides as it does.
         * @enum {string}
         */
        AdmissionReason: "within_limit" | "no_limit" | "over_soft_limit" | "grace" | "not_counted" | "error_workflow" | "shadow" | "metering_stale" | "limit_reached" | "limit_unsettled" | "overage_reached" | "tenant_minute_cap" | "tenant_day_cap" | "tenant_concurrent_cap" | "workflow_minute_cap" | "workflow_day_cap" | "workflow_concurrent_cap" | "workflow_share_used" | "loop_detected" | "unknown_tenant" | "not_attributed";
        /** @description How the limit check decides, beyond the monthly limit. */
        AdmissionRuleJson: {
            /** @default null */
            grace: components["schemas"]["LongDuration"] | null;
            /**
             * @description What happens if a workflow seems to start itself in a loop.
             * @default tell
             */
            loop_rule: components["schemas"]["LoopRuleJson"];
            /** @default null */
            open_at_most: components["schemas"]["LongDuration"] | null;
            /**
             * Format: uint64
             * @description With a soft limit: executions allowed beyond it; null for any number.
             * @default null
             */
            overage_max: number | null;
            /**
             * @description Shadow mode: decide and record, but never refuse.
             * @default false
             */
            shadow: boolean;
            /**
             * @description Caps over all workflows of a tenant.
             * @default {
             *       "concurrent": null,
             *       "per_day": null,
             *       "per_minute": null
             *     }
             */
            tenant_caps: components["schemas"]["RunCapsJson"];
            /**
             * @description Caps for each workflow.
             * @default {
             *       "concurrent": null,
             *       "per_day": null,
             *       "per_minute": null
             *     }
             */
            workflow_caps: components["schemas"]["RunCapsJson"];
            /**
             * Format: uint32
             * @description The largest share of the monthly limit that one workflow may use, in percent: 1 to 100; null for all
             *     of it.
             * @default null
             */
            workflow_share_percent: number | null;
        };
        /** @description An amount that is not negative, in the currency's minor unit. */
        Amount: number;
        /**
         * @description Executions of one source that belong to one tenant: those of a `workflow`, a `tag` or a `project`, or all
         *     if none of the three is given. Of several attributions that match, the narrowest wins, in this order, then
         *     the latest `from`, then the first in the list.
         */
        AttributionJson: {
            /**
             * Format: date-time
             * @description Only executions that stopped from here on; missing for all.
             */
            from?: string | null;
            project?: null;
            tag?: null;
            /** @description The id of the tenant, which must exist. */
            tenant: components["schemas"]["TenantId"];
            /** @description A workflow's id at the source. */
            workflow: components["schemas"]["WorkflowId"];
        } | {
            /**
             * Format: date-time
             * @description Only executions that stopped from here on; missing for all.
             */
            from?: string | null;
            project?: null;
            /** @description The name of a workflow tag. */
            tag: components["schemas"]["Scope"];
            /** @description The id of the tenant, which must exist. */
            tenant: components["schemas"]["TenantId"];
            workflow?: null;
        } | {
            /**
             * Format: date-time
             * @description Only executions that stopped from here on; missing for all.
             */
            from?: string | null;
            /** @description A project's id at the source. */
            project: components["schemas"]["Scope"];
            tag?: null;
            /** @description The id of the tenant, which must exist. */
            tenant: components["schemas"]["TenantId"];
            workflow?: null;
        } | {
            /**
             * Format: date-time
             * @description Only executions that stopped from here on; missing for all.
             */
            from?: string | null;
            project?: null;
            tag?: null;
            /** @description The id of the tenant, which must exist. */
            tenant: components["schemas"]["TenantId"];
            workflow?: null;
        };
        /**
         * @description How a source and the count differ.
         * @enum {string}
         */
        AuditFinding: "not_recorded" | "different" | "not_shown" | "unspecified";
        /** @description The comparison of a source with the counted executions. */
        AuditJson: {
            /** @description The first differences, at most 1,000. */
            differences: components["schemas"]["DifferenceJson"][];
            /**
             * Format: uint64
             * @description The number of all differences.
             */
            differences_total: number;
            /**
             * Format: date-time
             * @description When it ended; null while it is running.
             */
            ended_at: string | null;
            /**
             * Format: uint64
             * @description Those that were recorded with the same status and end.
             */
            equal: number;
            /** @description Why it ended before everything was compared; null if it did not. */
            failure: string | null;
            /** @description The audit's id. */
            id: string;
            /**
             * Format: uint64
             * @description Final executions that the source has shown so far.
             */
            listed: number;
            /** @description The source's id. */
            source: components["schemas"]["SourceId"];
            /**
             * Format: date-time
             * @description When it started.
             */
            started_at: string;
            /** @description Its state. */
            state: components["schemas"]["AuditState"];
            unseen: components["schemas"]["UnseenJson"] | null;
            /**
             * Format: date-time
             * @description When the collector last reported it.
             */
            updated_at: string;
        };
        /**
         * @description The state of an audit.
         * @enum {string}
         */
        AuditState: "running" | "stalled" | "failed" | "done";
        /** @description The verdicts, in the order of the requests. */
        BatchJson: {
            /** @description One for each request. */
            verdicts: components["schemas"]["AdmissionJson"][];
        };
        /** @description How one figure has changed. */
        ChangeJson: {
            /**
             * Format: int64
             * @description The current figure minus the previous one.
             */
            absolute: number;
            /**
             * Format: double
             * @description The change in percent of the previous figure, to a tenth; null if that was zero.
             */
            percent: number | null;
        };
        /** @description How the figures have changed. */
        ChangesJson: {
            cost_minor: components["schemas"]["ChangeJson"] | null;
            /** @description Of `duration_ms`. */
            duration_ms: components["schemas"]["ChangeJson"];
            /** @description Of `executions`. */
            executions: components["schemas"]["ChangeJson"];
            mean_duration_ms: components["schemas"]["ChangeJson"] | null;
            /**
             * Format: double
             * @description Of `success_rate`, in percentage points; null if one of the two has none.
             */
            success_rate_points: number | null;
        };
        /** @description The final figures of a period. */
        ClosedPeriodJson: {
            /**
             * Format: int64
             * @description The number that an operator has added to `counted`; negative if subtracted.
             */
            adjusted: number;
            /**
             * Format: uint64
             * @description Counted executions that were stopped by a person.
             */
            canceled: number;
            /**
             * Format: date-time
             * @description When it was closed.
             */
            closed_at: string;
            /**
             * Format: uint64
             * @description The count: `executions` + `adjusted`, late ones included.
             */
            counted: number;
            /**
             * Format: uint64
             * @description Counted executions whose process died.
             */
            crashed: number;
            /**
             * Format: uint64
             * @description Total run time of the counted executions.
             */
            duration_ms: number;
            /**
             * Format: uint64
             * @description Counted executions that ended with an error.
             */
            error: number;
            /**
             * Format: uint64
             * @description Counted executions, by how they ended: `success` + `error` + `crashed` + `canceled`.
             */
            executions: number;
            /** @description Sources that were not complete past the period's end when it was closed. */
            incomplete_sources: string[];
            /**
             * Format: uint64
             * @description Counted executions that were found after the period had closed; part of `counted`.
             */
            late: number;
            /**
             * Format: date-time
             * @description When the last late execution was found, or the figures were corrected; null if neither happened.
             */
            late_found_at: string | null;
            /** @description The period. */
            period: components["schemas"]["PeriodJson"];
            /** @description The plan at its end; null if not known. */
            plan: string | null;
            /**
             * Format: uint64
             * @description Counted executions that succeeded.
             */
            success: number;
            /**
             * Format: double
             * @description success / executions, 0 to 1; null if there are none. Adjustments are not executions.
             */
            success_rate: number | null;
            /**
             * Format: uint64
             * @description Executions that the plan does not count.
             */
            uncounted: number;
            /**
             * Format: uint64
             * @description Executions that an operator has voided; not in any other figure.
             */
            voided: number;
        };
        /** @description The figures that are compared. */
        ComparedJson: {
            /**
             * Format: int64
             * @description The operator's adjustment; null for a part of a period.
             */
            adjusted: number | null;
            cost: components["schemas"]["MoneyJson"] | null;
            /**
             * Format: uint64
             * @description Total run time of the executions.
             */
            duration_ms: number;
            /**
             * Format: uint64
             * @description Counted executions, without adjustments.
             */
            executions: number;
            /**
             * Format: uint64
             * @description Mean run time; null if there are no executions.
             */
            mean_duration_ms: number | null;
            /**
             * Format: double
             * @description success / executions, 0 to 1; null if there are none.
             */
            success_rate: number | null;
        };
        /** @description A period compared with the previous one. */
        ComparisonJson: {
            /**
             * Format: date-time
             * @description Includes everything that was counted until then.
             */
            as_of: string | null;
            change: components["schemas"]["ChangesJson"] | null;
            change_to_whole: components["schemas"]["ChangesJson"] | null;
            /** @description The requested period, up to the last whole hour for which all sources are counted. */
            current: components["schemas"]["SideJson"];
            previous: components["schemas"]["SideJson"] | null;
            previous_whole: components["schemas"]["SideJson"] | null;
            /** @description The tenant's id. */
            tenant: string;
        };
        /** @description A correction that was made. */
        CorrectionJson: {
            /**
             * Format: int64
             * @description The number added to the count.
             */
            adjusted: number | null;
            /** @description Who made it; null for the tenant. */
            author: string | null;
            /**
             * Format: date-time
             * @description When.
             */
            corrected_at: string;
            /** @description Chosen by the author; null for the tenant if the reason is not public. */
            id: string | null;
            /**
             * Format: date-time
             * @description The end of the corrected period, exclusive.
             */
            period_end: string;
            /**
             * Format: date-time
             * @description The start of the corrected period, inclusive.
             */
            period_start: string;
            /** @description Whether the tenant may read the reason. */
            public: boolean;
            /** @description Why; null for the tenant if it is not public. */
            reason: string | null;
            void: components["schemas"]["VoidedJson"] | null;
        };
        /** @description The corrections of a period, oldest first. */
        CorrectionList: {
            /** @description The corrections. */
            corrections: components["schemas"]["CorrectionJson"][];
            /** @description The period. */
            period: components["schemas"]["PeriodJson"];
            /** @description The tenant's id. */
            tenant: string;
        };
        /**
         * @description A period's cost, and the shares of it that belong to no listed workflow. The workflows' costs and these
         *     add up to the total.
         */
        CostsJson: {
            /** @description The share of the adjustments; negative if they subtract executions. */
            adjusted: components["schemas"]["MoneyJson"];
            /** @description Charged whatever the usage, so it belongs to no workflow. */
            base_fee: components["schemas"]["MoneyJson"];
            /** @description The share of the workflows that are not listed. */
            omitted: components["schemas"]["MoneyJson"];
            /** @description The cost of the whole period. */
            total: components["schemas"]["MoneyJson"];
        };
        /** @description Which executions count, beyond production runs (webhook, trigger, retry, cli, evaluation). */
        CountingJson: {
            /**
             * @description Also canceled runs.
             * @default false
             */
            canceled: boolean;
            /**
             * @description Also error-workflow runs.
             * @default false
             */
            error_workflow: boolean;
            /**
             * @description Also runs from the editor.
             * @default false
             */
            manual: boolean;
            /**
             * @description Also modes that are none of the above.
             * @default false
             */
            other: boolean;
            /**
             * @description Also sub-workflow runs.
             * @default false
             */
            sub_workflow: boolean;
        };
        /**
         * @description An ISO 4217 code in lower case.
         * @enum {string}
         */
        Currency: "aed" | "afn" | "all" | "amd" | "aoa" | "ars" | "aud" | "awg" | "azn" | "bam" | "bbd" | "bdt" | "bgn" | "bhd" | "bif" | "bmd" | "bnd" | "bob" | "bov" | "brl" | "bsd" | "btn" | "bwp" | "byn" | "bzd" | "cad" | "cdf" | "che" | "chf" | "chw" | "clf" | "clp" | "cny" | "cop" | "cou" | "crc" | "cuc" | "cup" | "cve" | "czk" | "djf" | "dkk" | "dop" | "dzd" | "egp" | "ern" | "etb" | "eur" | "fjd" | "fkp" | "gbp" | "gel" | "ghs" | "gip" | "gmd" | "gnf" | "gtq" | "gyd" | "hkd" | "hnl" | "hrk" | "htg" | "huf" | "idr" | "ils" | "inr" | "iqd" | "irr" | "isk" | "jmd" | "jod" | "jpy" | "kes" | "kgs" | "khr" | "kmf" | "kpw" | "krw" | "kwd" | "kyd" | "kzt" | "lak" | "lbp" | "lkr" | "lrd" | "lsl" | "lyd" | "mad" | "mdl" | "mga" | "mkd" | "mmk" | "mnt" | "mop" | "mru" | "mur" | "mvr" | "mwk" | "mxn" | "mxv" | "myr" | "mzn" | "nad" | "ngn" | "nio" | "nok" | "npr" | "nzd" | "omr" | "pab" | "pen" | "pgk" | "php" | "pkr" | "pln" | "pyg" | "qar" | "ron" | "rsd" | "rub" | "rwf" | "sar" | "sbd" | "scr" | "sdg" | "sek" | "sgd" | "shp" | "sle" | "sll" | "sos" | "srd" | "ssp" | "stn" | "svc" | "syp" | "szl" | "thb" | "tjs" | "tmt" | "tnd" | "top" | "try" | "ttd" | "twd" | "tzs" | "uah" | "ugx" | "usd" | "usn" | "uyi" | "uyu" | "uyw" | "uzs" | "ved" | "ves" | "vnd" | "vuv" | "wst" | "xaf" | "xcd" | "xcg" | "xof" | "xpf" | "yer" | "zar" | "zmw" | "zwg" | "zwl";
        /** @description A stored value that cannot be read. Putting it again repairs it. */
        DamagedJson: {
            /** @description Its id. */
            id: string;
            /** @description Why it cannot be read. */
            reason: string;
        };
        /** @description One execution on which the source and the count differ. */
        DifferenceJson: {
            /** @description For a person: the execution at the source, and as counted. */
            detail: string;
            /**
             * Format: uint32
             * @description The epoch of the source's id sequence that the id belongs to.
             */
            epoch: number;
            /** @description Its id there. */
            execution: string;
            /** @description `not_recorded`, `different`, `not_shown` or `unspecified`. */
            finding: components["schemas"]["AuditFinding"];
        };
        /**
         * @description What went wrong, for programs.
         * @enum {string}
         */
        ErrorCode: "unauthorized" | "forbidden" | "csrf_header_missing" | "not_found" | "method_not_allowed" | "invalid_request" | "invalid_json" | "invalid_value" | "too_large" | "unsupported_media_type" | "in_use" | "taken" | "removed" | "conflict" | "too_many" | "too_many_requests" | "overloaded" | "timeout" | "unavailable" | "internal";
        /** @description What went wrong. */
        ErrorDetail: {
            /** @description For programs. */
            code: components["schemas"]["ErrorCode"];
            /** @description The invalid field, if it is a single one. */
            field?: string | null;
            /** @description For people: what happened and what to do. */
            message: string;
        };
        /** @description The body of every answer that is not a success. */
        ErrorJson: {
            /** @description What went wrong. */
            error: components["schemas"]["ErrorDetail"];
        };
        /**
         * @description How an execution ended.
         * @enum {string}
         */
        ExecutionStatus: "success" | "error" | "crashed" | "canceled";
        /** @description An execution, and how it was counted. */
        ExplainedJson: {
            /** @description Whether it counts. */
            counted: boolean;
            /**
             * Format: uint32
             * @description The epoch of the source's id sequence.
             */
            epoch: number;
            /** @description Its id there. */
            execution: string;
            /** @description Whether it was found after the period had closed. */
            late: boolean;
            /** @description What started it, as n8n names it. */
            mode: string;
            /** @description The workflow's name; null if the source did not give it. */
            name: string | null;
            /**
             * Format: date-time
             * @description When it was counted.
             */
            recorded_at: string;
            /** @description The source that ran it. */
            source: string;
            /**
             * Format: date-time
             * @description When it started; null if it never did.
             */
            started_at: string | null;
            /** @description `success`, `error`, `crashed` or `canceled`. */
            status: components["schemas"]["ExecutionStatus"];
            /**
             * Format: date-time
             * @description When it stopped.
             */
            stopped_at: string;
            /** @description Whether an operator has voided it, so that it no longer counts. */
            voided: boolean;
            /** @description The workflow's id there. */
            workflow: string;
        };
        /** @description A figure and a page of the executions behind it. */
        Explanation: {
            /** @description Corrections by operators; only with the first page. */
            corrections: components["schemas"]["CorrectionJson"][];
            /** @description Executions in the order in which they stopped. */
            executions: components["schemas"]["ExplainedJson"][];
            /** @description The `page` of the next request; null at the end. */
            next_page: string | null;
            /** @description The period. */
            period: components["schemas"]["PeriodJson"];
            /** @description The tenant's id. */
            tenant: string;
            /** @description The figure: its executions and adjustments. */
            totals: components["schemas"]["TotalsJson"];
        };
        /** @description Why a source cannot be swept. */
        FailingJson: {
            /**
             * Format: uint32
             * @description Consecutive failures.
             */
            consecutive_failures: number;
            /** @description For a person: what happened and what to do. */
            detail: string;
            /**
             * @description For programs: `unreachable`, `unauthorized`, `rate_limited`, `unreadable`, `too_large`,
             *     `secret_unreadable`, `internal`, `unspecified`.
             */
            reason: components["schemas"]["FailureReason"];
            /**
             * Format: date-time
             * @description Since when.
             */
            since: string;
        };
        /**
         * @description Why a source cannot be swept.
         * @enum {string}
         */
        FailureReason: "unspecified" | "unreachable" | "unauthorized" | "rate_limited" | "unreadable" | "too_large" | "secret_unreadable" | "internal";
        /** @description The forecast of the period, if the coming days are like those of the last four weeks. */
        ForecastJson: {
            cost_estimate: components["schemas"]["MoneyJson"] | null;
            /**
             * Format: uint64
             * @description Counted executions at the period's end.
             */
            counted_at_end: number;
            /** @description How many days it is based on. */
            days_observed: number;
            /**
             * Format: date
             * @description The date in the tenant's time zone on which the limit is reached; null if it is not reached in this
             *     period, or was reached already.
             */
            limit_reached_on: string | null;
        };
        /** @description A range of executions that the source no longer shows and that were never collected. */
        GapJson: {
            /**
             * Format: uint32
             * @description The epoch of the source's id sequence that the ids belong to.
             */
            epoch: number;
            /** @description First id of the range. */
            first_execution_id: string;
            /**
             * Format: date-time
             * @description When it was found.
             */
            found_at: string;
            /** @description Last id of the range, inclusive; empty if no end is known. */
            last_execution_id: string;
            /** @description `open_execution_vanished`, `pruned_before_seen`, `epoch_ended` or `unspecified`. */
            reason: string;
        };
        /** @description The gaps of one source. */
        GapList: {
            /**
             * Format: uint64
             * @description How many gaps are kept (90 days).
             */
            count: number;
            /** @description The latest ones, newest first, at most 1,000. */
            gaps: components["schemas"]["GapJson"][];
            /** @description The source's id. */
            source: string;
        };
        /** @description Executions that disappeared before they were seen. */
        GapsJson: {
            /**
             * Format: uint64
             * @description How many gaps are kept (90 days).
             */
            count: number;
            /** @description The latest ones, newest first, at most 20. */
            recent: components["schemas"]["GapJson"][];
        };
        /**
         * @description How long a slice is.
         * @enum {string}
         */
        GrainJson: "hour" | "day" | "period";
        /**
         * @description How refusals are grouped.
         * @enum {string}
         */
        GroupJson: "reason" | "workflow" | "day";
        /**
         * @description The language of mails and messages.
         * @enum {string}
         */
        Language: "en" | "es";
        /**
         * @description What happens at the limit.
         * @enum {string}
         */
        LimitKindJson: "hard" | "soft";
        /**
         * @description A duration of 1 s to 400 days, e.g. `24h`. Other spellings of a duration (`90 seconds`, `PT10M`) are read too.
         * @example 24h
         */
        LongDuration: string;
        /**
         * @description What happens if a workflow seems to start itself in a loop.
         * @enum {string}
         */
        LoopRuleJson: "tell" | "refuse" | "off";
        /** @description An amount of money. */
        MoneyJson: {
            /**
             * Format: int64
             * @description In the currency's minor unit (cents).
             */
            amount_minor: number;
            /** @description ISO 4217, lower case. */
            currency: string;
            /**
             * Format: uint32
             * @description The amount is `amount_minor` divided by 10 to the power of this: ISO 4217's exponent of the currency.
             *     A library's own number of digits for the currency may differ.
             */
            exponent: number;
        };
        /** @description A new token. */
        NewTokenJson: components["schemas"]["TokenJson"] & {
            /** @description Shown only now. */
            token: string;
        };
        /** @description What to do while the limit check cannot be reached. */
        OutageJson: {
            /** @description The message for a run that is refused meanwhile, in the tenant's language. */
            message: string;
            /**
             * Format: uint64
             * @description How long `open` holds; null for no limit.
             */
            open_at_most_seconds: number | null;
            /** @description `open`: let runs start. `closed`: do not. */
            rule: components["schemas"]["OutageRuleJson"];
        };
        /**
         * @description The limit check's answer while usage figures are missing or too old.
         * @enum {string}
         */
        OutageRuleJson: "open" | "closed";
        /** @description A period that an operator has ended. This cannot be undone. */
        PeriodEndJson: {
            /**
             * Format: date-time
             * @description When it was requested.
             */
            asked_at: string;
            /** @description Who ended it. */
            author: string;
            /** @description Chosen by the author. */
            id: string;
            /**
             * Format: date-time
             * @description The end of the next period: the first boundary of the tenant's calendar.
             */
            next_end: string;
            /**
             * Format: date-time
             * @description Its new end, and the start of the next period: a whole minute, after everything that was counted in
             *     it.
             */
            period_end: string;
            /**
             * Format: date-time
             * @description The start of the ended period.
             */
            period_start: string;
            /** @description Why. */
            reason: string;
        };
        /** @description A metering period. */
        PeriodJson: {
            /**
             * Format: date-time
             * @description Exclusive.
             */
            end: string;
            /**
             * Format: date-time
             * @description Inclusive.
             */
            start: string;
            /**
             * @description The IANA name of the time zone in which the period begins at midnight. A tenant's new time zone takes
             *     effect with the next period.
             */
            time_zone: string;
        };
        /** @description The closed periods of one tenant, newest first, at most 60. */
        PeriodList: {
            /**
             * Format: date-time
             * @description When this answer was made.
             */
            as_of: string;
            /** @description The periods. */
            periods: components["schemas"]["ClosedPeriodJson"][];
            /** @description The tenant's id. */
            tenant: string;
        };
        /**
         * @description A plan's id, chosen by the operator.
         * @example pro
         */
        PlanId: string;
        /** @description A plan. */
        PlanJson: {
            /** @description How the limit check decides, beyond the monthly limit. */
            admission: components["schemas"]["AdmissionRuleJson"];
            /** @description Which executions count, beyond production runs. */
            counting: components["schemas"]["CountingJson"];
            /** @description Chosen by the operator. */
            id: components["schemas"]["PlanId"];
            /** @description What happens at the limit. */
            limit_kind: components["schemas"]["LimitKindJson"];
            /** @description The event name of the Stripe meter. */
            meter_event_name: string | null;
            /**
             * Format: uint64
             * @description Counted executions in a period; null for no limit.
             */
            monthly_limit: number | null;
            /** @description The name shown to people. */
            name: string;
            /** @description The limit check's answer while usage figures are missing or too old. */
            outage_rule: components["schemas"]["OutageRuleJson"];
            price: components["schemas"]["PriceJson"] | null;
            /**
             * Format: uint64
             * @description Grows with every change.
             */
            revision: number;
            /** @description Shares of the limit at which the tenant is warned, in percent, ascending. */
            thresholds_percent: number[];
        };
        /** @description All plans, by id. */
        PlanList: {
            /** @description Plans whose stored value cannot be read: put them again. */
            damaged: components["schemas"]["DamagedJson"][];
            /** @description The plans. */
            plans: components["schemas"]["PlanJson"][];
        };
        /** @description What a plan charges for a period. Amounts are in the currency's minor unit (cents). */
        PriceJson: {
            /** @description Charged whatever the usage. */
            base_fee_minor?: components["schemas"]["Amount"];
            /** @description ISO 4217, lower case, e.g. `eur`. */
            currency: components["schemas"]["Currency"];
            /**
             * Format: uint32
             * @description The number of digits after the decimal point in the amounts: ISO 4217's exponent of the currency.
             *     Always in an answer; in a request it may be left out, but otherwise must be the currency's own.
             */
            exponent?: number | null;
            /**
             * Format: uint64
             * @description Executions that the base fee covers.
             */
            included_executions?: number;
            /** @description For each 1,000 executions beyond the included ones. */
            overage_per_thousand_minor?: components["schemas"]["Amount"];
        };
        /** @description A new push token. */
        PushTokenJson: {
            /** @description Shown only now. */
            token: string;
        };
        /** @description Refused runs of one reason, workflow or day. */
        RefusalRowJson: components["schemas"]["RefusedJson"] & {
            /**
             * Format: date
             * @description The date in the tenant's time zone; null if not grouped by day. An hour belongs to the date on which
             *     it begins.
             */
            day: string | null;
            /**
             * @description Whether this is the sum of further workflows: an hour has separate figures for the first 100 pairs of
             *     reason and workflow.
             */
            is_further: boolean;
            /** @description Its name; null if not known. */
            name: string | null;
            /** @description The reason, as in the limit check's answer; null if not grouped by reason. */
            reason: string | null;
            /**
             * @description The workflow's id; null if the requests named none, in rows of further workflows, and if not grouped
             *     by workflow.
             */
            workflow: string | null;
        };
        /** @description A tenant's refused runs. */
        RefusalsJson: {
            /**
             * Format: date-time
             * @description Includes everything that was refused until then.
             */
            as_of: string;
            /**
             * Format: date-time
             * @description Inclusive.
             */
            from: string;
            group: components["schemas"]["GroupJson"] | null;
            /** @description Refusals that are in no row. */
            omitted: components["schemas"]["RefusedJson"];
            /** @description The most first, at most 1,000; days in chronological order. */
            rows: components["schemas"]["RefusalRowJson"][];
            /** @description The tenant's id. */
            tenant: string;
            /** @description The tenant's time zone, by its IANA name. */
            time_zone: string;
            /**
             * Format: date-time
             * @description Exclusive.
             */
            to: string;
            /** @description The sum of all refusals. */
            totals: components["schemas"]["RefusedJson"];
        };
        /** @description How many runs. */
        RefusedJson: {
            /**
             * Format: uint64
             * @description Runs that were refused.
             */
            refused: number;
            /**
             * Format: uint64
             * @description Runs that were allowed only because the plan is in shadow mode.
             */
            would_be_refused: number;
        };
        /** @description The refusal that was asked for, or why there is none. */
        RefusedOrError: components["schemas"]["AdmissionJson"] | components["schemas"]["ErrorJson"];
        /** @description How often runs may start; null for any number. */
        RunCapsJson: {
            /**
             * Format: uint64
             * @description Runs that were admitted and are not known to have ended.
             * @default null
             */
            concurrent: number | null;
            /**
             * Format: uint64
             * @description Runs in any 24 hours.
             * @default null
             */
            per_day: number | null;
            /**
             * Format: uint64
             * @description Runs in a minute.
             * @default null
             */
            per_minute: number | null;
        };
        /** @description Identifies a run: printable characters without spaces. */
        RunId: string;
        /** @description A tag's name or a project's id: no control characters. */
        Scope: string;
        /** @description A tenant's figures over time, oldest slice first. */
        SeriesJson: {
            /**
             * @description Periods that begin in the span and were adjusted by an operator. For hours and days, `totals` does not
             *     include the adjustments: over a whole period, the slices' `counted` and this `adjusted` add up to the
             *     period's `counted`.
             */
            adjustments: components["schemas"]["AdjustedPeriodJson"][];
            /**
             * Format: date-time
             * @description Includes everything that was counted until then.
             */
            as_of: string | null;
            /**
             * Format: date-time
             * @description Inclusive.
             */
            from: string;
            /** @description How long a slice is. */
            grain: components["schemas"]["GrainJson"];
            /** @description Slices without executions are left out. */
            slices: components["schemas"]["SliceJson"][];
            /** @description The tenant's id. */
            tenant: string;
            /** @description The tenant's time zone, by its IANA name. */
            time_zone: string;
            /**
             * Format: date-time
             * @description Exclusive.
             */
            to: string;
            /** @description The sum of the slices. */
            totals: components["schemas"]["TotalsJson"];
        };
        /** @description Who is signed in. */
        SessionJson: {
            /**
             * Format: date-time
             * @description When the session ends; null if the request carried a token.
             */
            expires_at: string | null;
            /** @description Operator or tenant. */
            kind: components["schemas"]["TokenKindJson"];
            /** @description The tenant's id; null for an operator. */
            tenant: string | null;
        };
        /** @description Why a run would have been refused. */
        ShadowJson: {
            /** @description For a person. */
            message: string;
            /** @description For programs. */
            reason: components["schemas"]["AdmissionReason"];
        };
        /** @description Runs that would have been refused in the current period. */
        ShadowReportJson: {
            /**
             * Format: date-time
             * @description The period's first instant.
             */
            period_start: string;
            /** @description By reason and workflow, the most first, at most 1,000. */
            refusals: components["schemas"]["ShadowRowJson"][];
            /** @description The tenant's id. */
            tenant: string;
        };
        /** @description Runs that would have been refused for one reason. */
        ShadowRowJson: {
            /** @description Why. */
            reason: string;
            /**
             * Format: uint64
             * @description How many.
             */
            runs: number;
            /** @description The workflow; null if the requests name none. */
            workflow: string | null;
        };
        /** @description A period, or its first part. */
        SideJson: {
            figures: components["schemas"]["ComparedJson"] | null;
            /** @description The stored period; it may be longer or shorter than the other. */
            period: components["schemas"]["PeriodJson"];
            /**
             * Format: date-time
             * @description The figures cover the time from the period's start until here, exclusive.
             */
            until: string;
        };
        /** @description The figures of one slice of time. */
        SliceJson: components["schemas"]["TotalsJson"] & {
            /**
             * Format: uint64
             * @description Half of the counted executions took no longer; null if there are none, or if it is not kept.
             */
            duration_p50_ms: number | null;
            /**
             * Format: uint64
             * @description 95 of 100 counted executions took no longer.
             */
            duration_p95_ms: number | null;
            /**
             * Format: date-time
             * @description Exclusive.
             */
            end: string;
            /**
             * @description The start by the tenant's clock, with its offset from UTC (RFC 3339): an hour may occur twice when the
             *     clocks go back.
             */
            local_start: string;
            /**
             * Format: date-time
             * @description Inclusive.
             */
            start: string;
        };
        /** @description How fresh the figures of one source are. */
        SourceFreshnessJson: {
            /**
             * Format: int64
             * @description How far its clock is ahead of Flowmeter's, negative if it is behind; null if not known, and for
             *     tenants.
             */
            clock_skew_ms: number | null;
            /**
             * Format: date-time
             * @description Counted up to here; null until its first sweep has ended.
             */
            complete_until: string | null;
            failing: components["schemas"]["FailingJson"] | null;
            /**
             * Format: uint64
             * @description How many gaps it has (kept for 90 days): executions that disappeared before they were seen.
             */
            gaps: number;
            /**
             * Format: uint64
             * @description Time since `complete_until`.
             */
            lag_seconds: number | null;
            /**
             * Format: date-time
             * @description When it is expected to prune executions that were not seen, at its current rate; null if sweeps come
             *     often enough.
             */
            loss_expected_at: string | null;
            /**
             * Format: uint64
             * @description Executions that were running at `complete_until`.
             */
            open_executions: number | null;
            /** @description Whether it is paused. */
            paused: boolean;
            /** @description The source's id. */
            source: components["schemas"]["SourceId"];
            unseen: components["schemas"]["UnseenJson"] | null;
            /** @description Problems that the operator should fix; empty for tenants. */
            warnings: components["schemas"]["WarningJson"][];
        };
        /** @description The gaps of one source. */
        SourceGapsJson: components["schemas"]["GapsJson"] & {
            /** @description The source's id. */
            source: string;
        };
        /**
         * @description A source's id, chosen by the operator.
         * @example north-n8n
         */
        SourceId: string;
        /** @description A source and its metering state. */
        SourceJson: {
            /** @description Executions that belong to other tenants. */
            attributions: components["schemas"]["AttributionJson"][];
            /** @description Without the API's path. */
            base_url: string;
            /** @description Whether a key is stored; the key itself is never shown. */
            has_api_key: boolean;
            /** @description Whether it has a push token: `POST /v1/sources/{id}/push-token`. */
            has_push_token: boolean;
            /** @description Chosen by the operator. */
            id: components["schemas"]["SourceId"];
            /** @description The software that it runs. */
            kind: components["schemas"]["SourceKindJson"];
            /** @description A paused source is not swept. */
            paused: boolean;
            /** @description Time between sweeps, e.g. `10m`. */
            poll_interval: string | null;
            /**
             * Format: uint64
             * @description Grows with every change.
             */
            revision: number;
            /** @description Its metering state. */
            status: components["schemas"]["SourceStatusJson"];
            tenant: components["schemas"]["TenantId"] | null;
        };
        /**
         * @description The software that a source runs.
         * @enum {string}
         */
        SourceKindJson: "n8n";
        /** @description All sources, by id. */
        SourceList: {
            /** @description Sources whose stored value cannot be read: put them again, with their key. */
            damaged: components["schemas"]["DamagedJson"][];
            /** @description The sources. */
            sources: components["schemas"]["SourceJson"][];
        };
        /** @description The metering state of a source. */
        SourceStatusJson: {
            /**
             * Format: date-time
             * @description When that was measured.
             */
            clock_measured_at: string | null;
            /**
             * Format: int64
             * @description How far its clock is ahead of Flowmeter's at the last measurement, negative if it is behind; null if
             *     not known.
             */
            clock_skew_ms: number | null;
            /**
             * Format: date-time
             * @description Every execution that stopped before this instant has been collected; null before the first sweep.
             */
            complete_until: string | null;
            failing: components["schemas"]["FailingJson"] | null;
            /** @description Executions that disappeared before they were seen. */
            gaps: components["schemas"]["GapsJson"];
            /**
             * Format: uint64
             * @description Time since `complete_until`.
             */
            lag_seconds: number | null;
            last_sweep: components["schemas"]["SweepJson"] | null;
            /**
             * Format: date-time
             * @description When it is expected to prune executions that were not seen, at its current rate; null if sweeps come
             *     often enough.
             */
            loss_expected_at: string | null;
            /**
             * Format: uint64
             * @description Executions that were running at `complete_until`.
             */
            open_executions: number | null;
            unseen: components["schemas"]["UnseenJson"] | null;
            /** @description Problems that a person should fix. */
            warnings: components["schemas"]["WarningJson"][];
        };
        /** @description A successful sweep. */
        SweepJson: {
            /**
             * Format: date-time
             * @description When it ended.
             */
            ended_at: string;
            /**
             * Format: uint32
             * @description The epoch of the source's id sequence.
             */
            epoch: number;
            /**
             * Format: uint32
             * @description Final executions that it published, repeats included.
             */
            executions_published: number;
            /**
             * Format: date-time
             * @description When it started.
             */
            started_at: string | null;
        };
        /**
         * @description A tenant's id, chosen by the operator.
         * @example north
         */
        TenantId: string;
        /** @description A tenant. */
        TenantJson: {
            /** @description Mail addresses that receive alerts. */
            alert_recipients: string[];
            /**
             * Format: uint32
             * @description Day of the month on which periods start; in shorter months the last day.
             */
            anchor_day: number;
            /** @description Whether it was removed: its figures stay readable, its id cannot be used for another tenant. */
            archived: boolean;
            /**
             * Format: date-time
             * @description When it was archived; null if it was not, or if it was removed before this was recorded.
             */
            archived_at: string | null;
            /**
             * Format: date-time
             * @description When this calendar takes effect, if the current period still follows another one; null if it is in
             *     effect, or if nothing is known of the period yet.
             */
            calendar_from: string | null;
            /** @description Chosen by the operator. */
            id: components["schemas"]["TenantId"];
            /** @description Language of mails and messages. */
            language: components["schemas"]["Language"];
            /**
             * Format: uint64
             * @description Replaces the plan's limit.
             */
            limit_override: number | null;
            /**
             * Format: date-time
             * @description When the override ends and the plan's limit holds again; null for never.
             */
            limit_override_until: string | null;
            /** @description The name shown to people. */
            name: string;
            /** @description The id of its plan. */
            plan: components["schemas"]["PlanId"];
            /**
             * Format: uint64
             * @description Grows with every change.
             */
            revision: number;
            /** @description Whether other tenants may have the same Stripe customer. */
            shared_customer: boolean;
            /** @description Its Stripe customer id. */
            stripe_customer_id: string | null;
            /** @description IANA name. */
            time_zone: string;
            /** @description Problems that a person should fix. */
            warnings: components["schemas"]["WarningJson"][];
        };
        /** @description Tenants, by id. */
        TenantList: {
            /** @description Tenants whose stored value cannot be read: put them again. */
            damaged: components["schemas"]["DamagedJson"][];
            /** @description The tenants. */
            tenants: components["schemas"]["TenantJson"][];
        };
        /** @description The details of a token. */
        TokenJson: {
            /**
             * Format: date-time
             * @description When it was created.
             */
            created_at: string;
            /**
             * Format: uuid
             * @description Identifies it, e.g. to revoke it: `DELETE /v1/tokens/{id}`.
             */
            id: string;
            /** @description An operator's or a tenant's. */
            kind: components["schemas"]["TokenKindJson"];
            /**
             * Format: date-time
             * @description When it was revoked; null while it is valid.
             */
            revoked_at: string | null;
            tenant: components["schemas"]["TenantId"] | null;
        };
        /**
         * @description The owner of a token.
         * @enum {string}
         */
        TokenKindJson: "operator" | "tenant";
        /** @description Valid tokens and the latest revoked ones, newest first. */
        TokenList: {
            /** @description The tokens. */
            tokens: components["schemas"]["TokenJson"][];
        };
        /** @description One workflow, and how long its counted executions take. */
        TopWorkflow: components["schemas"]["WorkflowJson"] & {
            cost: components["schemas"]["MoneyJson"] | null;
            /**
             * Format: uint64
             * @description Half of its counted executions took no longer; null if there are none.
             */
            duration_p50_ms: number | null;
            /**
             * Format: uint64
             * @description 95 of 100 of its counted executions took no longer.
             */
            duration_p95_ms: number | null;
        };
        /** @description The workflows of a tenant's period, the largest first. */
        TopWorkflows: {
            /**
             * Format: date-time
             * @description Includes everything that was counted until then.
             */
            as_of: string | null;
            cost: components["schemas"]["CostsJson"] | null;
            /** @description The sum of the workflows that are not listed. */
            omitted: components["schemas"]["TotalsJson"];
            /** @description The period. */
            period: components["schemas"]["PeriodJson"];
            /** @description The tenant's id. */
            tenant: string;
            /** @description The period's figures: the workflows, `omitted` and `adjusted` add up to its `counted`. */
            totals: components["schemas"]["TotalsJson"];
            /** @description The workflows. */
            workflows: components["schemas"]["TopWorkflow"][];
            /**
             * Format: uint64
             * @description How many workflows there are.
             */
            workflows_total: number;
        };
        /** @description Figures over a set of executions. */
        TotalsJson: {
            /**
             * Format: int64
             * @description The number that an operator has added to `counted`; negative if subtracted. Only for whole periods:
             *     hours, days and workflows are not adjusted.
             */
            adjusted: number;
            /**
             * Format: uint64
             * @description Counted executions that were stopped by a person.
             */
            canceled: number;
            /**
             * Format: uint64
             * @description The count: `executions` + `adjusted`.
             */
            counted: number;
            /**
             * Format: uint64
             * @description Counted executions whose process died.
             */
            crashed: number;
            /**
             * Format: uint64
             * @description Total run time of the counted executions.
             */
            duration_ms: number;
            /**
             * Format: uint64
             * @description Counted executions that ended with an error.
             */
            error: number;
            /**
             * Format: uint64
             * @description Counted executions, by how they ended: `success` + `error` + `crashed` + `canceled`.
             */
            executions: number;
            /**
             * Format: uint64
             * @description Counted executions that were found after their period had closed.
             */
            late: number;
            /**
             * Format: uint64
             * @description Counted executions that succeeded.
             */
            success: number;
            /**
             * Format: double
             * @description success / executions, 0 to 1; null if there are none. Adjustments are not executions.
             */
            success_rate: number | null;
            /**
             * Format: uint64
             * @description Executions that the plan does not count.
             */
            uncounted: number;
            /**
             * Format: uint64
             * @description Executions that an operator has voided; not in any other figure.
             */
            voided: number;
        };
        /** @description Executions of one workflow that belong to no tenant yet. */
        UnmappedJson: {
            /**
             * Format: uint64
             * @description How many.
             */
            executions: number;
            /**
             * Format: date-time
             * @description When the first of them stopped.
             */
            first_stopped_at: string | null;
            /**
             * Format: date-time
             * @description When the last of them stopped.
             */
            last_stopped_at: string | null;
            /** @description Its name; null if not known. */
            name: string | null;
            /** @description The id of its project; null if not known. */
            project: string | null;
            /** @description The source that runs it. */
            source: string;
            /** @description The names of its tags. */
            tags: string[];
            /** @description Its id there. */
            workflow: string;
        };
        /** @description Executions that belong to no tenant yet. */
        UnmappedList: {
            /**
             * Format: date-time
             * @description When these figures were read.
             */
            as_of: string;
            /**
             * Format: uint64
             * @description How many there are.
             */
            executions: number;
            /**
             * Format: uint64
             * @description Executions that were pushed for shared sources, and are held until a poll shows them. They are not in
             *     any other figure.
             */
            executions_held: number;
            /** @description The workflows with the most of them, at most 1,000. */
            workflows: components["schemas"]["UnmappedJson"][];
            /**
             * Format: uint64
             * @description How many workflows they belong to.
             */
            workflows_total: number;
        };
        /**
         * @description Executions that a source has numbered but never showed, usually because it does not save them. They are
         *     not counted unless they are pushed. Save them, or let n8n push.
         */
        UnseenJson: {
            /**
             * Format: uint64
             * @description How many there are at most: this includes ids that were deleted at once or belonged to a test.
             */
            executions_max: number;
            /**
             * Format: date-time
             * @description Since when they are counted: the first sweep, or the start of the month (UTC).
             */
            since: string;
            /**
             * Format: uint32
             * @description Workflows whose own settings exclude some of their executions from saving. The instance's settings,
             *     which apply to the others, are not known.
             */
            unsaving_workflows: number;
        };
        /** @description One tenant's usage with its workflows. */
        UsageDetail: components["schemas"]["UsageJson"] & {
            forecast: components["schemas"]["ForecastJson"] | null;
            /** @description The sources that have gaps, with the latest of each. */
            gaps: components["schemas"]["SourceGapsJson"][];
            /** @description The workflows with the most counted executions, at most 1,000. */
            workflows: components["schemas"]["WorkflowJson"][];
            /**
             * Format: uint32
             * @description Workflows that are not listed.
             */
            workflows_omitted: number;
            workflows_omitted_totals: components["schemas"]["TotalsJson"] | null;
        };
        /** @description The usage of one tenant in its current period. Also the data of the server-sent event `usage`. */
        UsageJson: {
            /**
             * Format: int64
             * @description The number that an operator has added to `counted`; negative if subtracted.
             */
            adjusted: number | null;
            /** @description Whether the tenant was removed. Its figures are then those of its last period. */
            archived: boolean;
            /**
             * Format: date-time
             * @description When it was archived; null if it was not, or if it was removed before this was recorded.
             */
            archived_at: string | null;
            /**
             * Format: date-time
             * @description When these figures were read; null if nothing is known yet.
             */
            as_of: string | null;
            /**
             * Format: uint64
             * @description Counted executions that were stopped by a person.
             */
            canceled: number | null;
            /**
             * Format: date-time
             * @description All sources are counted up to here; null until each has been swept once.
             */
            complete_until: string | null;
            cost_estimate: components["schemas"]["MoneyJson"] | null;
            /**
             * Format: uint64
             * @description The count: `executions` + `adjusted`; null if nothing is known of this period yet.
             */
            counted: number | null;
            /**
             * Format: uint64
             * @description Counted executions whose process died.
             */
            crashed: number | null;
            /**
             * Format: uint64
             * @description Total run time of the counted executions.
             */
            duration_ms: number | null;
            /**
             * Format: uint64
             * @description Counted executions that ended with an error.
             */
            error: number | null;
            /**
             * Format: uint64
             * @description Counted executions, by how they ended: `success` + `error` + `crashed` + `canceled`.
             */
            executions: number | null;
            /**
             * Format: uint64
             * @description Time since `complete_until`.
             */
            lag_seconds: number | null;
            /**
             * Format: uint64
             * @description Counted executions that were found after their period had closed.
             */
            late: number | null;
            /**
             * Format: uint64
             * @description Counted executions allowed in the period; null for no limit.
             */
            limit: number | null;
            /** @description The name shown to people. */
            name: string;
            /**
             * Format: uint64
             * @description Executions that were running at `complete_until`.
             */
            open_executions: number | null;
            /** @description The current period. */
            period: components["schemas"]["PeriodJson"];
            /** @description The id of its plan. */
            plan: components["schemas"]["PlanId"];
            /**
             * Format: uint64
             * @description Executions left until the limit.
             */
            remaining: number | null;
            /** @description The tenant's sources, by id. */
            sources: components["schemas"]["SourceFreshnessJson"][];
            /** @description Usage relative to the limit. */
            state: components["schemas"]["UsageState"];
            /**
             * Format: uint64
             * @description Counted executions that succeeded.
             */
            success: number | null;
            /**
             * Format: double
             * @description success / executions, 0 to 1; null if there are none. Adjustments are not executions.
             */
            success_rate: number | null;
            /** @description The tenant's id. */
            tenant: components["schemas"]["TenantId"];
            /**
             * Format: uint64
             * @description Executions that the plan does not count.
             */
            uncounted: number | null;
            /**
             * Format: double
             * @description Share of the limit in percent, one decimal; null without limit, with a limit of 0, or if not known.
             */
            used_percent: number | null;
            /**
             * Format: uint64
             * @description Executions that an operator has voided; not in any other figure.
             */
            voided: number | null;
        };
        /** @description The usage of the current period of every tenant that the caller may see, by tenant id. */
        UsageList: {
            /**
             * Format: date-time
             * @description When this answer was made.
             */
            as_of: string;
            /** @description One element per tenant. */
            usage: components["schemas"]["UsageJson"][];
        };
        /**
         * @description Usage relative to the limit.
         * @enum {string}
         */
        UsageState: "ok" | "warning" | "over" | "unknown";
        /** @description An execution that no longer counts. */
        VoidedJson: {
            /**
             * Format: uint32
             * @description The epoch of the source's id sequence.
             */
            epoch: number;
            /** @description Its id there. */
            execution: string;
            /** @description The source that ran it. */
            source: string;
        };
        /**
         * @description What a warning is about: the first four concern a source, the last a tenant.
         * @enum {string}
         */
        WarningCode: "clock" | "shared_push_token" | "same_instance" | "same_address" | "same_customer";
        /** @description A problem that a person should fix. */
        WarningJson: {
            /**
             * @description For programs: `clock`, `shared_push_token`, `same_instance`, `same_address` for a source,
             *     `same_customer` for a tenant.
             */
            code: components["schemas"]["WarningCode"];
            /** @description For a person: what is wrong and what to do. */
            detail: string;
            /** @description The other sources, instances or tenants concerned, at most ten. */
            others: string[];
            /**
             * Format: date-time
             * @description Since when; null if not known.
             */
            since: string | null;
        };
        /** @description A workflow's id at its source: printable characters without spaces. */
        WorkflowId: string;
        /** @description The usage of one workflow. */
        WorkflowJson: {
            /**
             * Format: uint64
             * @description Counted executions that were stopped by a person.
             */
            canceled: number;
            /**
             * Format: uint64
             * @description Executions that count.
             */
            counted: number;
            /**
             * Format: uint64
             * @description Counted executions whose process died.
             */
            crashed: number;
            /**
             * Format: uint64
             * @description Total run time of the counted executions.
             */
            duration_ms: number;
            /**
             * Format: uint64
             * @description Counted executions that ended with an error.
             */
            error: number;
            /**
             * Format: uint64
             * @description Counted executions that were found after their period had closed.
             */
            late: number;
            /**
             * Format: uint64
             * @description `duration_ms` / executions, rounded down; null if there are none.
             */
            mean_duration_ms: number | null;
            /** @description Its name; null if the source did not give it. */
            name: string | null;
            /** @description The source that runs it. */
            source: string;
            /**
             * Format: uint64
             * @description Counted executions that succeeded.
             */
            success: number;
            /**
             * Format: double
             * @description success / executions, 0 to 1; null if there are none.
             */
            success_rate: number | null;
            /**
             * Format: uint64
             * @description Executions that the plan does not count.
             */
            uncounted: number;
            /**
             * Format: uint64
             * @description Executions that an operator has voided; not in any other figure.
             */
            voided: number;
            /** @description Its id there. */
            workflow: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
