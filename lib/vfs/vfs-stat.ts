/** Figures of one mount's file system: what is open now, and totals since the start. */
export interface VfsStat {
  /** Whether the driver can hand files to the kernel. */
  readonly passthrough: boolean;
  /** Handles of files that programs hold. */
  readonly openFiles: number;
  /** Nodes that the kernel holds or that are open. */
  readonly nodes: number;
  /** Opens so far whose reads the kernel does by itself. */
  readonly passthroughOpens: number;
  /** Opens so far whose reads come to us. */
  readonly servedOpens: number;
  /** Bytes so far of reads that came to us. */
  readonly servedBytes: number;
}
