/** GETs of small objects a second: the SDK on one thread against wrk on presigned URLs, and where the SDK's time goes. */
import { alternate, type Measure } from './context.ts';
import { sizes } from './dataset.ts';
import { sdkGetsPerSecond, sdkTimeShares, wrkGetsPerSecond } from './sdk.ts';
import { hasCommand } from './stage.ts';

const SHARES_SHOWN = 8;

export const requests: Measure = {
  name: 'requests',
  about: 'GETs of small objects a second: SDK against wrk',
  async run(context) {
    const { stage, dataset } = context;
    const set = await dataset.files(sizes(stage.isQuick).coldFiles);
    stage.tell('GETs a second');
    const hasWrk = hasCommand('wrk');
    const values = await alternate(stage.runs, {
      sdk: () => sdkGetsPerSecond(context, set),
      ...(hasWrk ? { wrk: () => wrkGetsPerSecond(context, set) } : {}),
    } as Record<'sdk' | 'wrk', () => Promise<number>>);
    const shares = (await sdkTimeShares(context, set)).slice(0, SHARES_SHOWN);
    const note = shares.map(({ where, share }) => `${where} ${(share * 100).toFixed(0)}%`).join(', ');
    return [
      {
        measure: 'GETs of 10 kB objects, 8 at once: the SDK as it is, one thread',
        unit: 'GETs/s',
        better: 'higher',
        perigee: { name: 'sdk', values: values.sdk },
        others: [
          {
            name: 'wrk, presigned URLs',
            values: values.wrk ?? [],
            ...(hasWrk ? {} : { note: 'wrk is missing: apt-get install wrk' }),
          },
        ],
        note: `where the SDK's time goes: ${note}`,
      },
    ];
  },
};
