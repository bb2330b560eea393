### Lo que responde el control del límite a un flujo que pregunta si puede ejecutarse. Los clientes lo muestran a personas.
###
### $used, $limit: ejecuciones, como texto: "?" o "-" si no se conocen.
### $until, $again: un instante tal como sigue a un verbo: "el 1 de diciembre de 2026 a las 00:00 (Europe/Madrid)".
### Concuerda con "la ejecución": permitida, rechazada.

## Permitida

within_limit = Permitida: se han usado { $used } de { $limit } ejecuciones.
no_limit = Permitida: el plan no tiene límite.
over_soft_limit = Permitida, pero por encima del límite: se han usado { $used } de { $limit } ejecuciones.
grace = Permitida por ahora: ya se han usado las { $limit } ejecuciones de este periodo. Pronto se rechazarán las siguientes.
not_counted = Permitida: el plan no cuenta este tipo de ejecución.
error_workflow = Permitida: una ejecución de un flujo de error nunca se rechaza.
# El plan está en modo de observación: anota lo que un límite rechazaría y no rechaza nada.
shadow = Permitida: el plan está en modo de observación. De lo contrario, esta ejecución se rechazaría.
metering_stale_allowed = Permitida sin comprobar: los datos de consumo no están al día.

## Rechazada

metering_stale = Rechazada: los datos de consumo no están al día y, en ese caso, el plan no permite ejecuciones.
limit_reached = Rechazada: se han usado las { $limit } ejecuciones de este periodo. El límite se renueva { $until }.
limit_unsettled = Rechazada por ahora: puede que algunas de las últimas ejecuciones se cuenten dos veces hasta la próxima actualización. Inténtelo de nuevo { $again }.
overage_reached = Rechazada: se han agotado el límite de { $limit } ejecuciones y el excedente permitido. El límite se renueva { $until }.
tenant_minute_cap = Rechazada: demasiadas ejecuciones en este minuto. Inténtelo de nuevo { $again }.
tenant_day_cap = Rechazada: demasiadas ejecuciones hoy. Inténtelo de nuevo { $again }.
tenant_concurrent_cap = Rechazada: hay demasiadas ejecuciones en curso. Inténtelo de nuevo cuando terminen algunas.
workflow_minute_cap = Rechazada: demasiadas ejecuciones de este flujo en este minuto. Inténtelo de nuevo { $again }.
workflow_day_cap = Rechazada: demasiadas ejecuciones de este flujo hoy. Inténtelo de nuevo { $again }.
workflow_concurrent_cap = Rechazada: hay demasiadas ejecuciones de este flujo en curso. Inténtelo de nuevo cuando terminen algunas.
workflow_share_used = Rechazada: este flujo ha usado su parte del límite de { $limit } ejecuciones. El límite se renueva { $until }.
loop_detected = Rechazada: este flujo se inicia mucho más de lo habitual, como si se iniciara a sí mismo.

## Junto a la respuesta

# Tras un rechazo.
hint = Las ejecuciones podrán volver a iniciarse { $again }.
# Lo dice un cliente que no puede llegar al control del límite.
unavailable = Rechazada: en este momento no se puede comprobar si esta ejecución está dentro de su límite.
