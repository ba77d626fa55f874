/** What satellite and origin tell each other when an export is opened: both must speak the same. */
export const PROTOCOL_VERSION = 2;
