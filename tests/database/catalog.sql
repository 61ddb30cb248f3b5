-- The catalogue of schema pgflow in a normalised form, one line an object.
select 'column|' || c.relname || '|' || a.attname || '|' || format_type(a.atttypid, a.atttypmod)
       || '|' || case when a.attnotnull then 'not null' else 'null' end
       || '|' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'pgflow'
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relkind in ('r', 'p')
UNION ALL
select 'type|' || t.typname || '|' || row_number() over (partition by t.typname order by a.attnum) || '|' || a.attname || '|' || format_type(a.atttypid, a.atttypmod)
from pg_type t join pg_namespace n on n.oid = t.typnamespace and n.nspname = 'pgflow'
join pg_class c on c.oid = t.typrelid and c.relkind = 'c'
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
UNION ALL
select 'constraint|' || r.relname || '|' || k.conname || '|' || regexp_replace(pg_get_constraintdef(k.oid), '\s+', ' ', 'g')
from pg_constraint k join pg_class r on r.oid = k.conrelid
join pg_namespace n on n.oid = r.relnamespace and n.nspname = 'pgflow'
where k.contype <> 'n'
UNION ALL
select 'index|' || tablename || '|' || indexname || '|' || substr(indexdef, strpos(indexdef, ' USING '))
from pg_indexes where schemaname = 'pgflow'
UNION ALL
select 'function|' || p.proname || '(' || pg_get_function_arguments(p.oid) || ')|' || pg_get_function_result(p.oid)
       || '|' || case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end
       || case when p.prosecdef then '|security definer' else '|invoker' end
from pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = 'pgflow'
